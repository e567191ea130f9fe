"""Deadlines that all lie the same time ahead, so that one timer serves any number of them."""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """Who has to be done by when, if everyone gets the same time.

    What is added later is due later, so the first is always the next.

    Args:
        timeout: The time that everyone gets, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._due: dict[K, float] = {}

    def add(self, key: K, now: float) -> None:
        """Give a key its time, from now on; a key that is there already keeps its deadline."""
        self._due.setdefault(key, now + self._timeout)

    def discard(self, key: K) -> None:
        """Forget a key, if it is there."""
        self._due.pop(key, None)

    def clear(self) -> None:
        """Forget all keys."""
        self._due.clear()

    @property
    def keys(self) -> tuple[K, ...]:
        """All keys, in the order of their deadlines."""
        return tuple(self._due)

    @property
    def next(self) -> float | None:
        """When the next deadline is; None for none."""
        return next(iter(self._due.values()), None)

    def pop_expired(self, now: float) -> list[K]:
        """Remove and return the keys whose deadline has come, in order."""
        expired = []
        for key, due in self._due.items():
            if due > now:
                break
            expired.append(key)
        for key in expired:
            del self._due[key]
        return expired
