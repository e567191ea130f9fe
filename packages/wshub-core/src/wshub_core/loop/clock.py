"""The clock of the timeouts and the heartbeat."""

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class Clock(Protocol):
    """A source of time with scheduled calls. An asyncio event loop is a clock."""

    def time(self) -> float:
        """Return the monotonic time in seconds; its zero is arbitrary."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        """Schedule a call on the event loop at a time of this clock."""
