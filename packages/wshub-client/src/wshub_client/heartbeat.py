"""The heartbeat of one connection of a client."""

import asyncio
from collections.abc import Awaitable, Callable

from wshub_client.errors import LostError
from wshub_client.settings import HeartbeatSettings
from wshub_client.waiting import STANDSTILL_SECONDS
from wshub_core import Timer


class Heartbeat:
    """Pings the hub after silence, and ends the connection if no bytes follow.

    Args:
        settings: The interval, the timeout and the clock.
        send_ping: Sends a message of type ``ping``, which the hub answers.
        send_pong: Sends a pong frame of the WebSocket protocol, which the hub does not answer.
        abort: Ends the connection at once.

    Attributes:
        failure: The error that explains why the heartbeat has ended the connection; or None.
    """

    __slots__ = (
        "_abort",
        "_clock",
        "_due",
        "_is_reading_paused",
        "_last_heard",
        "_pinged_at",
        "_send_ping",
        "_send_pong",
        "_sending",
        "_settings",
        "_timer",
        "failure",
    )

    def __init__(
        self,
        settings: HeartbeatSettings,
        send_ping: Callable[[], Awaitable[None]],
        send_pong: Callable[[], Awaitable[None]],
        abort: Callable[[], None],
    ) -> None:
        self.failure: LostError | None = None
        self._settings = settings
        self._clock = settings.get_clock()
        self._send_ping = send_ping
        self._send_pong = send_pong
        self._abort = abort
        self._is_reading_paused = False
        self._last_heard = self._clock.time()
        self._pinged_at = self._last_heard
        self._due = self._last_heard
        self._timer: Timer | None = None
        self._sending: asyncio.Future[None] | None = None  # asyncio keeps weak references only

    def start(self) -> None:
        """Watch the connection from now on."""
        self._beat()

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def note_heard(self) -> None:
        """Note that bytes have come from the hub."""
        self._last_heard = self._clock.time()

    def note_reading_paused(self) -> None:
        """Note that nothing is read, because the application is slow."""
        self._is_reading_paused = True

    def note_reading_resumed(self) -> None:
        """Note that the connection is read again."""
        self._is_reading_paused = False
        self.note_heard()

    def _beat(self) -> None:
        """Do what is due, and set the timer for the next time."""
        interval, pong_timeout = self._settings.interval, self._settings.pong_timeout
        now = self._clock.time()
        if self._is_reading_paused:
            # The hub's pings are not read, so they are not answered. A pong without a ping shows
            # the hub that this client is alive. The silence of the hub means nothing meanwhile.
            self._send(self._send_pong)
            due = now + interval
        elif self._last_heard < self._pinged_at:
            # A ping was sent, and nothing has come since.
            due = self._pinged_at + pong_timeout
            late = now - self._due
            if now >= due and late < STANDSTILL_SECONDS:
                seconds = now - self._last_heard
                self.failure = LostError(1006, f"nothing came for {seconds:.0f} s")
                self._abort()
                return
            if now >= due:
                # The loop stood still, so the answer may wait in the socket. The hub gets as much
                # more time as the loop was late.
                due = now + min(late, pong_timeout)
        elif now >= self._last_heard + interval:
            self._pinged_at = now
            self._send(self._send_ping)
            due = now + min(pong_timeout, interval)
        else:
            due = self._last_heard + interval
        self._due = due
        self._timer = self._clock.call_at(due, self._beat)

    def _send(self, send: Callable[[], Awaitable[None]]) -> None:
        self._sending = asyncio.ensure_future(send())
