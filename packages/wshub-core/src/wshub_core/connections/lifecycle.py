"""The lifecycle of connections: connect, leave, close, and the end of the transport."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from contextvars import Context, copy_context
from functools import partial
from itertools import count

from wshub_core.connections.auth_expiry import AuthExpiry
from wshub_core.connections.connection import ConnectionOwner, ServerConnection
from wshub_core.connections.delivery import Delivery
from wshub_core.connections.heartbeat import Heartbeat
from wshub_core.connections.stalled_writes import StalledWrites
from wshub_core.connections.subscriptions import Subscriptions
from wshub_core.connections.transport import Transport
from wshub_core.connections.watching import Watches
from wshub_core.logs import get_logger
from wshub_core.loop.callbacks import Callbacks
from wshub_core.loop.clock import Clock
from wshub_core.loop.tasks import Tasks
from wshub_core.loop.timeouts import Timeouts
from wshub_core.loop.turns import PreciseLoop
from wshub_core.protocol.counters import Counters
from wshub_core.protocol.outbox import Outbox
from wshub_core.protocol.registry import Registry
from wshub_core.protocol.user_index import UserIndex
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import CloseCode, Disconnect, DisconnectCause
from wshub_core.values.config import HubConfig

logger = get_logger("wshub.connections")
access_logger = get_logger("wshub.access")

_END_LEVELS = {
    DisconnectCause.CLIENT_CLOSED: None,
    DisconnectCause.SERVER_CLOSED: None,
    DisconnectCause.SLOW_CONSUMER: logging.WARNING,
    DisconnectCause.WRITE_TIMEOUT: logging.WARNING,
}
"""The log levels of the causes; ``INFO`` for those that are not here, None for ordinary ends."""


class Lifecycle:
    """Adds connections to the hub and removes them again.

    A connection ends in two steps. `leave` removes it from the registry: from then on it receives
    no messages, and if the hub has closed it, its frames are ignored. `note_disconnected` follows
    when its transport has ended, and runs ``on_disconnect``.

    Args:
        config: The hub's settings.
        loop: The event loop.
        clock: The hub's clock.
        counters: The hub's counters.
        registry: The hub's connections and their subscriptions.
        users: The connections of each user.
        subscriptions: Subscribes connections to channels.
        callbacks: Calls of the application's callbacks.
        tasks: The tasks that the hub waits for when it closes.
        watches: Show the frames of watched connections.

    Attributes:
        delivery: Delivers messages to the connections.
        auth_expiry: Closes connections whose authentication expires.
        stalled_writes: Aborts connections whose peer takes no bytes.
    """

    def __init__(
        self,
        config: HubConfig,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        counters: Counters,
        registry: Registry[ServerConnection],
        users: UserIndex[ServerConnection],
        subscriptions: Subscriptions,
        callbacks: Callbacks,
        tasks: Tasks,
        watches: Watches,
    ) -> None:
        self._watches = watches
        self.delivery = Delivery(PreciseLoop(loop), counters, self.close)
        self.auth_expiry = AuthExpiry(clock, self.close)
        self.stalled_writes = StalledWrites(
            clock, config.write_timeout, self.delivery, self._abort_stalled
        )
        self._config = config
        self._clock = clock
        self._counters = counters
        self._registry = registry
        self._users = users
        self._subscriptions = subscriptions
        self._callbacks = callbacks
        self._tasks = tasks
        self._heartbeat = Heartbeat(
            clock, config.heartbeat_interval, config.pong_timeout, self.close
        )
        self._late_callbacks: Timeouts[ServerConnection] = Timeouts(
            clock, config.close_timeout, self._end_late_callback
        )
        self._ids = count(1)
        # Every connection with a transport. The registry no longer holds those whose closing
        # handshake is under way.
        self._connections: set[ServerConnection] = set()

    @property
    def connection_count(self) -> int:
        """Number of connections whose transport has not ended."""
        return len(self._connections)

    def connect(
        self,
        owner: ConnectionOwner,
        transport: Transport,
        remote_address: str,
        identity: AuthResult,
        context: Context | None = None,
    ) -> ServerConnection:
        """Add a connection whose opening handshake has succeeded, and run ``on_connect``.

        Args:
            owner: The hub.
            transport: The connection's transport.
            remote_address: Address of the peer.
            identity: Result of the authenticator.
            context: Context of the connection's callbacks, in which no code runs now; a copy of the
                current context if None.

        Returns:
            The connection. It may have ended already: ``on_connect`` can close it.
        """
        connection = ServerConnection(
            next(self._ids),
            remote_address,
            identity,
            owner,
            transport,
            Outbox(self._config.max_outbox_bytes, self._config.overflow),
            copy_context() if context is None else context,
            self._clock.time(),
        )
        self.auth_expiry.set(connection, identity.expires_at)
        self._connections.add(connection)
        self._registry.add(connection)
        self._users.add(connection.user_id, connection)
        self._heartbeat.add(connection)
        self._counters.connections += 1
        if self._watches.is_active:
            self._watches.note_connected(connection)
        access_logger.debug("%r connected", connection)
        # Last, when the connection is complete: `on_connect` may send, subscribe and close.
        on_connect = self._config.on_connect
        if on_connect is not None:
            connection.run_on_connect(
                partial(self._callbacks.run, "on_connect", on_connect, connection)
            )
        return connection

    def leave(self, connection: ServerConnection) -> None:
        """Remove a connection from the registry; it receives no more messages."""
        # First: it reads the subscriptions, which `Registry.remove` deletes.
        self._subscriptions.cancel_pending(connection)
        if self._registry.remove(connection):
            self._users.remove(connection.user_id, connection)
            self._heartbeat.discard(connection)
            self.auth_expiry.discard(connection)
            self.delivery.close_outbox(connection)

    def note_disconnected(
        self, connection: ServerConnection, cause: DisconnectCause, code: int, reason: str
    ) -> None:
        """Remove a connection whose transport has ended, and run ``on_disconnect``.

        Args:
            connection: The connection.
            cause: Cause that the transport reports. If the hub has ended the connection, its own
                cause, code and reason count instead.
            code: Close code that the transport reports.
            reason: Close reason that the transport reports.
        """
        if connection not in self._connections:
            # `close_all` has given up on this transport, and has disconnected the connection.
            return
        self.leave(connection)
        self.stalled_writes.discard(connection)
        self._connections.discard(connection)
        connection.lose_transport()
        end = connection.ending or (cause, code, reason)
        disconnect = Disconnect(*end, connection.dropped_messages)
        self._counters.disconnects[disconnect.cause] += 1
        self._log_end(connection, disconnect)
        on_disconnect = self._config.on_disconnect
        if on_disconnect is not None:
            connection.run_on_disconnect(
                partial(self._callbacks.run, "on_disconnect", on_disconnect, connection, disconnect)
            )

    def _log_end(self, connection: ServerConnection, disconnect: Disconnect) -> None:
        """Log the end of a connection, without the reason, which the client can choose."""
        cause, code = disconnect.cause, disconnect.code
        seconds = self._clock.time() - connection.connected_at
        fields = {"cause": cause, "code": code, "duration": round(seconds, 3)}
        fields |= {"address": connection.remote_address, "kind": cause}
        level = _END_LEVELS.get(cause, logging.INFO)
        if level is not None:
            line = "%r ended: %s, code %d, after %.1f s"
            logger.log(level, line, connection, cause, code, seconds, extra=fields)
        line = "%r disconnected: %s, code %d, after %.1f s"
        access_logger.debug(line, connection, cause, code, seconds, extra=fields)

    def close(
        self, connection: ServerConnection, cause: DisconnectCause, code: int, reason: str
    ) -> bool:
        """Close a connection with a close frame.

        For the causes ``SERVER_CLOSED`` and ``AUTH_EXPIRED``, the peer first receives its queued
        messages. For other causes these are dropped.

        Returns:
            False if the connection had ended before.
        """
        if connection not in self._registry:
            return False
        if cause is DisconnectCause.SLOW_CONSUMER:
            self._counters.evictions[cause] += 1
        elif cause in (DisconnectCause.SERVER_CLOSED, DisconnectCause.AUTH_EXPIRED):
            # The peer is not at fault, so it receives its queued messages before the close frame.
            # `leave` would drop them.
            self.delivery.flush(connection)
            if connection not in self._registry:
                return False  # the flush has overflowed the outbox, which ended the connection
        connection.note_ending(cause, code, reason)
        self.leave(connection)
        connection.start_close(code, reason)
        return True

    def start_callback_timeout(self, connection: ServerConnection) -> None:
        """Limit the running callback of an ended connection to ``close_timeout`` from now on."""
        # `add` keeps a time that runs already.
        self._late_callbacks.discard(connection)
        self._late_callbacks.add(connection)

    async def close_all(self, code: int, reason: str) -> None:
        """Close every connection, and wait until all transports and callbacks have ended.

        Every wait is bounded by ``close_timeout``: for the closing handshakes, for aborted
        transports, for the callbacks that run, and for cancelled callbacks.
        """
        for connection in tuple(self._connections):
            self.close(connection, DisconnectCause.SERVER_CLOSED, code, reason)
        await self.end_transports()
        await self._finish_callbacks()
        self.stalled_writes.cancel()

    async def end_transports(self) -> None:
        """Wait until the transports of all closed connections have ended; abort the late ones.

        Both waits are bounded by ``close_timeout``.
        """
        connections = tuple(self._connections)
        # Transports apply the same timeout by the hub's clock. This wait uses the event loop's
        # clock, so it ends even if the hub's clock stands still.
        await self._wait_gone(connections)
        for connection in connections:
            connection.abort()
        await self._wait_gone(connections)
        for connection in self._connections & {*connections}:
            logger.error("the transport of %r did not end after its abort", connection)
            self.note_disconnected(connection, DisconnectCause.LOST, 1006, "")

    async def _wait_gone(self, connections: Sequence[ServerConnection]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.close_timeout):
                for connection in connections:
                    await connection.wait_gone()

    async def _finish_callbacks(self) -> None:
        """Wait for callbacks, cancel the late ones, and do the same for the last callbacks."""
        timeout = self._config.close_timeout
        # The tasks to cancel after the first wait. An ``on_disconnect`` that starts during the wait
        # is not among them: it gets a timeout of its own.
        tasks = self._tasks.running
        await self._tasks.wait(timeout)
        # From here on this method ends the late callbacks, and no timer does.
        late = self._late_callbacks.keys
        self._late_callbacks.cancel()
        for connection in late:
            connection.cancel_callback()
        self._tasks.cancel(tasks)
        await self._tasks.wait(timeout)
        # `on_disconnect` runs once its connection's callback is abandoned, and gets the same time.
        for connection in late:
            connection.abandon_callback()
        await self._tasks.wait(timeout)
        self._tasks.cancel(self._tasks.running)
        await self._tasks.wait(timeout)
        if self._tasks.running:
            logger.error("%d callbacks ignored their cancellation", len(self._tasks.running))
        self._late_callbacks.cancel()

    def _end_late_callback(self, connection: ServerConnection) -> None:
        if not connection.is_callback_running:
            return
        # The first expiry cancels the callback, which starts the time limit again. At the second
        # expiry the callback has ignored its cancellation.
        if connection.cancel_callback():
            logger.warning(
                "a callback of %r still runs after the end of the connection, cancelling it",
                connection,
            )
        else:
            connection.abandon_callback()

    def _abort_stalled(self, connection: ServerConnection) -> None:
        # During the closing handshake the cause is set already, and a slow consumer is counted.
        if connection.ending is None:
            self._counters.evictions[DisconnectCause.WRITE_TIMEOUT] += 1
            connection.note_ending(
                DisconnectCause.WRITE_TIMEOUT, CloseCode.TRY_AGAIN_LATER, "write timeout"
            )
        self.leave(connection)
        connection.abort()
