"""A manual clock, for tests of timeouts without waiting."""

import heapq
from collections.abc import Callable
from itertools import count


class ManualTimer:
    """A scheduled call; see `ManualClock.call_at`."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Cancel the call."""
        self.callback = None


class ManualClock:
    """A clock whose time changes only with `advance`.

    Give it to a hub as ``Hub(config, clock=clock)``.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._order = count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def time(self) -> float:
        """Return the time in seconds; it starts at 0."""
        return self._now

    def call_at(self, when: float, callback: Callable[[], object], /) -> ManualTimer:
        """Schedule a call for the time at which `advance` reaches ``when``, in seconds."""
        timer = ManualTimer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Advance the time by some seconds; make the calls that are due, each at its own time."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            if timer.callback is not None:
                timer.callback()
        self._now = end
