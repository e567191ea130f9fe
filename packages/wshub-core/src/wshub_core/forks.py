"""A guard for objects that a forked child process must not use."""

import os

from wshub_core.values.errors import ForkedProcessError


class ForkGuard:
    """A check that an object is used in the process that created it.

    Args:
        name: The name of the guarded object in the error, such as ``hub``.
    """

    __slots__ = ("_name", "_pid")

    def __init__(self, name: str) -> None:
        self._name = name
        # A forked child holds a copy of the guard, with the process id of the parent.
        self._pid = os.getpid()

    def check(self) -> None:
        """Raise an error in a forked child process.

        Raises:
            ForkedProcessError: This process is not the process that created the guard.
        """
        if os.getpid() != self._pid:
            raise ForkedProcessError(self._name)
