"""When the authentication of connections ends."""

from collections.abc import Callable
from functools import partial
from time import time

from wshub_core.runtime.clock import Clock, Timer
from wshub_core.runtime.session import Session


class Expiry:
    """Calls back for each session whose time is over; those without an end cost nothing.

    Args:
        clock: The clock to go by.
        on_expired: Called with the session.
    """

    def __init__(self, clock: Clock, on_expired: Callable[[Session], None]) -> None:
        self._clock = clock
        self._on_expired = on_expired
        self._timers: dict[Session, Timer] = {}

    def set(self, session: Session, expires_at: float | None) -> None:
        """Set when a session's time is over, in Unix time, whatever was set before; None: never."""
        self.discard(session)
        if expires_at is not None:
            due = self._clock.time() + (expires_at - time())
            self._timers[session] = self._clock.call_at(due, partial(self._expire, session))

    def discard(self, session: Session) -> None:
        """Forget a session, if it is there."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, session: Session) -> None:
        del self._timers[session]
        self._on_expired(session)
