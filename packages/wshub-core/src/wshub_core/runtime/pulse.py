"""The pulse: pings every session on time, and reports those that are silent for too long."""

from collections.abc import Callable

from wshub_core.runtime.clock import Clock, Timer
from wshub_core.runtime.session import Session
from wshub_core.state.heartbeat import HeartbeatWheel


class Pulse:
    """Turns the heartbeat's wheel, with one timer for all sessions, and none without sessions.

    Args:
        clock: The clock to go by.
        interval: The time between two pings, in seconds.
        timeout: The longest silence, in seconds.
        on_silent: Called with a session that has been silent for too long.
    """

    def __init__(
        self, clock: Clock, interval: float, timeout: float, on_silent: Callable[[Session], None]
    ) -> None:
        self._clock = clock
        self._on_silent = on_silent
        self._wheel: HeartbeatWheel[Session] = HeartbeatWheel(interval, timeout, clock.time())
        self._count = 0
        self._timer: Timer | None = None

    def add(self, session: Session) -> None:
        """Take in a session."""
        self._wheel.add(session, self._clock.time())
        self._count += 1
        self._schedule()

    def discard(self, session: Session) -> None:
        """Let a session go that has been added."""
        self._wheel.discard(session)
        self._count -= 1
        if self._count == 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        if self._timer is None and self._count:
            self._timer = self._clock.call_at(self._wheel.next_tick, self._look)

    def _look(self) -> None:
        # After a standstill answers may have come already, and not been read yet. So the loop gets
        # one more round before the verdict.
        self._timer = self._clock.call_at(self._clock.time(), self._beat)

    def _beat(self) -> None:
        self._timer = None
        to_ping, silent = self._wheel.advance(self._clock.time())
        for session in to_ping:
            session.ping()
        for session in silent:
            self._on_silent(session)
        self._schedule()
