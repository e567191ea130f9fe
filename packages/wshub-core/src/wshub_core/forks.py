"""A guard for objects that a forked child process must not use."""

import os

from wshub_core.values.errors import ForkedProcessError


class ForkGuard:
    """Remembers the process in which it was made.

    Args:
        name: The name of the guarded object in the error, such as ``hub``.
    """

    __slots__ = ("_name", "_pid")

    def __init__(self, name: str) -> None:
        self._name = name
        self._pid = os.getpid()

    def check(self) -> None:
        """Raise an error in every other process.

        Raises:
            ForkedProcessError: This is a forked child of the process that made the guard.
        """
        if os.getpid() != self._pid:
            raise ForkedProcessError(self._name)
