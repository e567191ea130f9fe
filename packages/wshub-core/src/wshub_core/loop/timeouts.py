"""One timeout for any number of keys, with one timer."""

from collections.abc import Callable
from typing import Generic

from wshub_core.loop.clock import Clock, Timer
from wshub_core.protocol.deadlines import Deadlines, K


class Timeouts(Generic[K]):
    """A callback for each key that is not discarded in time.

    Args:
        clock: The hub's clock.
        timeout: Time limit of every key, in seconds.
        on_expired: Called with a key whose time is over.
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
        """The keys that wait, in the order of their deadlines."""
        return self._deadlines.keys

    def cancel(self) -> None:
        """Forget all keys and stop the timer."""
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        # A timer that fires too early costs one check; a timer that fires too late would be wrong.
        # The next deadline never moves closer, so a timer that is set stays right.
        due = self._deadlines.next
        if self._timer is None and due is not None:
            self._timer = self._clock.call_at(due, self._wait_a_round)

    def _wait_a_round(self) -> None:
        # After a standstill of the process, the awaited bytes may wait unread in a socket. The loop
        # gets one more round to read them before deadlines are judged.
        self._timer = self._clock.call_at(self._clock.time(), self._expire)

    def _expire(self) -> None:
        self._timer = None
        for key in self._deadlines.pop_expired(self._clock.time()):
            self._on_expired(key)
        self._schedule()
