"""A time limit for any number of keys, with one timer."""

from collections.abc import Callable
from typing import Generic

from wshub_core.loop.clock import Clock, Timer
from wshub_core.protocol.deadlines import Deadlines, K


class Timeouts(Generic[K]):
    """A set of keys with the same time limit, and a callback for keys that exceed it.

    Args:
        clock: The hub's clock.
        timeout: Time limit of every key, in seconds.
        on_expired: Called with each key that was not discarded in time.
    """

    def __init__(self, clock: Clock, timeout: float, on_expired: Callable[[K], None]) -> None:
        self._clock = clock
        self._on_expired = on_expired
        self._deadlines: Deadlines[K] = Deadlines(timeout)
        self._timer: Timer | None = None

    def add(self, key: K) -> None:
        """Start the time limit of a key, unless it runs already."""
        self._deadlines.add(key, self._clock.time())
        self._schedule()

    def discard(self, key: K) -> None:
        """Remove a key, if it is present."""
        self._deadlines.discard(key)

    @property
    def keys(self) -> tuple[K, ...]:
        """All keys, in the order of their deadlines."""
        return self._deadlines.keys

    def cancel(self) -> None:
        """Remove all keys and cancel the timer."""
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        # A timer that is set stays valid, because the next deadline never moves closer. If keys
        # were discarded, the timer fires too early, which costs one check.
        due = self._deadlines.next
        if self._timer is None and due is not None:
            self._timer = self._clock.call_at(due, self._expire_next_round)

    def _expire_next_round(self) -> None:
        # After a standstill of the process, the expected bytes may wait unread in a socket. The
        # loop gets one more round to read them before a key expires.
        self._timer = self._clock.call_at(self._clock.time(), self._expire)

    def _expire(self) -> None:
        self._timer = None
        for key in self._deadlines.pop_expired(self._clock.time()):
            self._on_expired(key)
        self._schedule()
