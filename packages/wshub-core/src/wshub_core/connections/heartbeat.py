"""The heartbeat: pings every connection regularly, and closes silent connections with 1011."""

from wshub_core.connections.connection import CloseConnection, ServerConnection
from wshub_core.loop.clock import Clock, Timer
from wshub_core.protocol.heartbeat import HeartbeatWheel
from wshub_core.values.closing import CloseCode, DisconnectCause


class Heartbeat:
    """Turns the heartbeat wheel of all connections with one timer.

    A timer for each connection would cost memory and time. Without connections there is no timer.

    Args:
        clock: The hub's clock.
        interval: Time between two pings, in seconds.
        timeout: Longest silence of a peer, in seconds.
        close: Ends a connection with a close frame.
    """

    def __init__(
        self, clock: Clock, interval: float, timeout: float, close: CloseConnection
    ) -> None:
        self._clock = clock
        self._close = close
        self._wheel: HeartbeatWheel[ServerConnection] = HeartbeatWheel(
            interval, timeout, clock.time()
        )
        self._count = 0
        self._timer: Timer | None = None

    def add(self, connection: ServerConnection) -> None:
        """Start the heartbeat of a connection."""
        self._wheel.add(connection)
        self._count += 1
        self._schedule()

    def discard(self, connection: ServerConnection) -> None:
        """Stop the heartbeat of a connection; call it once for each `add`."""
        self._wheel.discard(connection)
        self._count -= 1
        if self._count == 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        if self._timer is None and self._count:
            self._timer = self._clock.call_at(self._wheel.next_tick, self._beat_next_round)

    def _beat_next_round(self) -> None:
        # After the process stood still, pongs may wait unread in the sockets. The event loop gets
        # one more round to read them before the silence is measured.
        self._timer = self._clock.call_at(self._clock.time(), self._beat)

    def _beat(self) -> None:
        self._timer = None
        due = self._wheel.advance(self._clock.time())
        for connection in due.to_ping:
            connection.ping()
        for connection in due.silent:
            # The wheel has dropped the connection already. `_end` removes it from the count.
            self._close(
                connection, DisconnectCause.PONG_TIMEOUT, CloseCode.PONG_TIMEOUT, "pong timeout"
            )
        self._schedule()
