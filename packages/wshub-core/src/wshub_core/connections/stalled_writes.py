"""The write timeout: connections whose peer takes no bytes are aborted."""

from collections.abc import Callable

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.delivery import Delivery
from wshub_core.loop.clock import Clock
from wshub_core.loop.timeouts import Timeouts


class StalledWrites:
    """The connections whose transport takes no more bytes now.

    Args:
        clock: The hub's clock.
        timeout: Longest time in which a peer takes no byte, in seconds.
        delivery: The delivery, which measures progress and continues afterwards.
        abort: Called with a connection that is over its time.
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
        """Note that a transport takes no more bytes for now."""
        connection.pause_writing()
        self._timeouts.add(connection)

    def resume_writing(self, connection: ServerConnection) -> None:
        """Note that a transport has passed on all its bytes and takes more."""
        self._timeouts.discard(connection)
        connection.resume_writing()
        self._delivery.resume(connection)

    def discard(self, connection: ServerConnection) -> None:
        """Cancel the time limit of a connection."""
        self._timeouts.discard(connection)

    def cancel(self) -> None:
        """Cancel all time limits."""
        self._timeouts.cancel()

    def _check_progress(self, connection: ServerConnection) -> None:
        if self._delivery.note_progress(connection):
            # A slow peer is alive, even if the hub does not read its pongs meanwhile.
            connection.note_heard(self._clock.time())
            self._timeouts.add(connection)
        else:
            self._abort(connection)
