"""A guard for objects that a forked child process must not use."""

import os

from wshub_core.values.errors import ForkedProcessError

_generation = 0


def process_generation() -> int:
    """Return a number that is higher in a forked child than in its parent.

    The guards check it for each message. `os.getpid` would take as long as the rest of the call,
    because it is a system call.
    """
    return _generation


def _note_fork() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_note_fork)


class ForkGuard:
    """A check that an object is used in the process that created it.

    Args:
        name: The name of the guarded object in the error, such as ``hub``.
    """

    __slots__ = ("_generation", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        # A forked child holds a copy of the guard, with the number of the parent.
        self._generation = _generation

    def check(self) -> None:
        """Raise an error in a forked child process.

        Raises:
            ForkedProcessError: This process is not the process that created the guard.
        """
        if self._generation != _generation:
            raise ForkedProcessError(self._name)
