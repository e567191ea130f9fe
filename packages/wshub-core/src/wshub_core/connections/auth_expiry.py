"""The end of authentication: connections whose time is over are closed with 3000."""

from functools import partial
from time import time

from wshub_core.connections.connection import EndConnection, ServerConnection
from wshub_core.logs import get_logger
from wshub_core.loop.clock import Clock, Timer
from wshub_core.values.closing import CloseCode, DisconnectCause

logger = get_logger("wshub.connections")


class AuthExpiry:
    """A timer for each connection whose authentication ends; others cost nothing.

    Args:
        clock: The hub's clock.
        end: Ends a connection.
    """

    def __init__(self, clock: Clock, end: EndConnection) -> None:
        self._clock = clock
        self._end = end
        self._timers: dict[ServerConnection, Timer] = {}

    def set(self, connection: ServerConnection, expires_at: float | None) -> None:
        """Replace the end of a connection's authentication.

        Args:
            connection: The connection.
            expires_at: Unix time in seconds; None for no end.
        """
        self.discard(connection)
        if expires_at is not None:
            # The hub's clock has another zero than Unix time.
            due = self._clock.time() + (expires_at - time())
            self._timers[connection] = self._clock.call_at(due, partial(self._expire, connection))

    def discard(self, connection: ServerConnection) -> None:
        """Cancel the timer of a connection, if there is one."""
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, connection: ServerConnection) -> None:
        del self._timers[connection]
        logger.info("authentication of %r has expired, closing it", connection)
        self._end(
            connection,
            DisconnectCause.AUTH_EXPIRED,
            CloseCode.UNAUTHORIZED,
            "authentication expired",
        )
