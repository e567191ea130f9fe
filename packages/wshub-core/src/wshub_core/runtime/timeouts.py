"""A timeout for any number of keys, with one timer."""

from collections.abc import Callable
from typing import Generic

from wshub_core.runtime.clock import Clock, Timer
from wshub_core.state.deadlines import Deadlines, K


class Timeouts(Generic[K]):
    """Calls back for each key that is not discarded in time.

    Args:
        clock: The clock to go by.
        timeout: The time that every key gets, in seconds.
        on_expired: Called with the key whose time is up.
    """

    def __init__(self, clock: Clock, timeout: float, on_expired: Callable[[K], None]) -> None:
        self._clock = clock
        self._on_expired = on_expired
        self._deadlines: Deadlines[K] = Deadlines(timeout)
        self._timer: Timer | None = None

    def add(self, key: K) -> None:
        """Start the time of a key, unless it runs already."""
        self._deadlines.add(key, self._clock.time())
        self._schedule()

    def discard(self, key: K) -> None:
        """Forget a key, if it is there."""
        self._deadlines.discard(key)

    @property
    def keys(self) -> tuple[K, ...]:
        """The keys whose time runs."""
        return self._deadlines.keys

    def cancel(self) -> None:
        """Forget all keys and stop the timer."""
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        # A timer that comes too early costs one look; one that comes too late would be wrong. The
        # next deadline never moves closer, so a timer that is set stays right.
        due = self._deadlines.next
        if self._timer is None and due is not None:
            self._timer = self._clock.call_at(due, self._look)

    def _look(self) -> None:
        # After a standstill what a key waits for may have come already, and not been read yet. So
        # the loop gets one more round before the verdict.
        self._timer = self._clock.call_at(self._clock.time(), self._expire)

    def _expire(self) -> None:
        self._timer = None
        for key in self._deadlines.pop_expired(self._clock.time()):
            self._on_expired(key)
        self._schedule()
