"""The expiry of authentication: connections with an expired identity are closed with 3000."""

from functools import partial
from time import time

from wshub_core.connections.connection import CloseConnection, ServerConnection
from wshub_core.loop.clock import Clock, Timer
from wshub_core.values.closing import CloseCode, DisconnectCause


class AuthExpiry:
    """Closes connections when their authentication expires.

    Only connections whose authentication expires have a timer.

    Args:
        clock: The hub's clock.
        close: Ends a connection with a close frame.
    """

    def __init__(self, clock: Clock, close: CloseConnection) -> None:
        self._clock = clock
        self._close = close
        self._timers: dict[ServerConnection, Timer] = {}

    def set(self, connection: ServerConnection, expires_at: float | None) -> None:
        """Set or replace the time at which a connection's authentication expires.

        Args:
            connection: The connection.
            expires_at: Unix time in seconds; None if the authentication does not expire.
        """
        self.discard(connection)
        if expires_at is not None:
            # The hub's clock starts at an arbitrary time, so only the difference is meaningful.
            due = self._clock.time() + (expires_at - time())
            self._timers[connection] = self._clock.call_at(due, partial(self._expire, connection))

    def discard(self, connection: ServerConnection) -> None:
        """Cancel the timer of a connection, if there is one."""
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, connection: ServerConnection) -> None:
        # Before `_end`, which calls `discard`: the timer has run and needs no cancellation.
        del self._timers[connection]
        self._close(
            connection,
            DisconnectCause.AUTH_EXPIRED,
            CloseCode.UNAUTHORIZED,
            "authentication expired",
        )
