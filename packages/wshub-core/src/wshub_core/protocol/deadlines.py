"""Deadlines with one common time limit, so that one timer serves any number of them."""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """The deadlines of keys that all have the same time limit.

    A key that is added later has a later deadline. The keys are therefore always in the order of
    their deadlines, without sorting.

    Args:
        timeout: Time limit of every key, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._due: dict[K, float] = {}

    def add(self, key: K, now: float) -> None:
        """Start the time limit of a key; a key that is present keeps its deadline."""
        self._due.setdefault(key, now + self._timeout)

    def discard(self, key: K) -> None:
        """Remove a key, if it is present."""
        self._due.pop(key, None)

    def clear(self) -> None:
        """Remove all keys."""
        self._due.clear()

    @property
    def keys(self) -> tuple[K, ...]:
        """All keys, in the order of their deadlines."""
        return tuple(self._due)

    @property
    def next(self) -> float | None:
        """Time of the next deadline; None without keys."""
        return next(iter(self._due.values()), None)

    def pop_expired(self, now: float) -> list[K]:
        """Remove and return the keys whose deadline has passed, in order."""
        expired = []
        for key, due in self._due.items():
            if due > now:
                break
            expired.append(key)
        for key in expired:
            del self._due[key]
        return expired
