"""The write timeout: aborts connections whose peer takes no bytes."""

from collections.abc import Callable

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.delivery import Delivery
from wshub_core.loop.clock import Clock
from wshub_core.loop.timeouts import Timeouts


class StalledWrites:
    """The time limits of the connections that are not writable.

    The timeout restarts with every sign of progress, so a slow peer is not aborted.

    Args:
        clock: The hub's clock.
        timeout: Longest time without progress, in seconds.
        delivery: The delivery, which measures the progress.
        abort: Aborts a connection that made no progress.
    """

    def __init__(
        self,
        clock: Clock,
        timeout: float,
        delivery: Delivery,
        abort: Callable[[ServerConnection], None],
    ) -> None:
        self._clock = clock
        self._delivery = delivery
        self._abort = abort
        self._timeouts: Timeouts[ServerConnection] = Timeouts(clock, timeout, self._check_progress)

    def pause_writing(self, connection: ServerConnection) -> None:
        """Stop writing to a connection whose transport buffer is full; start its time limit."""
        connection.pause_writing()
        self._timeouts.add(connection)

    def resume_writing(self, connection: ServerConnection) -> None:
        """Write to a connection again; its transport has sent all its bytes."""
        self._timeouts.discard(connection)
        # Writable first: the delivery skips connections that are not.
        connection.resume_writing()
        self._delivery.resume(connection)

    def discard(self, connection: ServerConnection) -> None:
        """Cancel the time limit of a connection."""
        self._timeouts.discard(connection)

    def cancel(self) -> None:
        """Cancel all time limits."""
        self._timeouts.cancel()

    def _check_progress(self, connection: ServerConnection) -> None:
        if self._delivery.has_progressed(connection):
            # Taken bytes are a sign of life. A ping is not sent while the transport is full, so
            # there may be no pong.
            connection.note_heard(self._clock.time())
            self._timeouts.add(connection)
        else:
            self._abort(connection)
