"""The clock that timeouts and the heartbeat go by."""

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Have it not come."""


class Clock(Protocol):
    """Tells the time and calls back; an asyncio event loop is one."""

    def time(self) -> float:
        """Return the time in seconds, from any start, never going back."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        """Call back at a time, on the event loop."""
