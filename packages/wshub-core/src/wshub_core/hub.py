"""The hub: the facade that an application uses."""

import asyncio
import os
import socket
from collections.abc import Sequence
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from wshub_core.bridge_port import BridgePort
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.publishing import PublishListener
from wshub_core.connections.running_hub import RunningHub
from wshub_core.loop.clock import Clock
from wshub_core.loop.shutdown import ShutdownHook
from wshub_core.values.closing import CloseCode, validate_close
from wshub_core.values.config import HubConfig
from wshub_core.values.connection import Connection
from wshub_core.values.errors import HubAlreadyStartedError, HubClosedError, HubNotStartedError
from wshub_core.values.http import ProcessRequest
from wshub_core.values.message_factories import (
    channel_event_message,
    error_message,
    event_message,
    process_output_message,
    process_status_message,
)
from wshub_core.values.messages import JSON, Message
from wshub_core.values.stats import HubStats

if TYPE_CHECKING:
    from wshub_core.transports.asgi import HubApp
    from wshub_core.transports.server import Server


class Hub:
    """Connections, channels and subscriptions of one process.

    Enter it before use; it then belongs to that event loop::

        async with Hub() as hub, hub.serve("localhost", 8080) as server:
            hub.send_event("deploy:started")
            await server.serve_forever()

    Publishing methods are plain functions that never block and can be called from any thread: they
    check, encode and queue. What one thread publishes reaches each connection in that order and at
    most once, broadcasts, channel messages and replies alike.

    Args:
        config: The settings; the defaults if None.
        clock: What timeouts and the heartbeat go by; the event loop if None. Tests give a
            `wshub_core.testing.ManualClock`.
    """

    def __init__(self, config: HubConfig | None = None, *, clock: Clock | None = None) -> None:
        self.config = config or HubConfig()
        self._clock = clock
        self._running: RunningHub | None = None
        self._is_closed_early = False
        self._listeners: list[PublishListener] = []
        self._hooks: list[ShutdownHook] = []
        self._bridge_port = BridgePort(
            self.config.max_message_bytes, self._get_running, lambda: self._running
        )

    async def __aenter__(self) -> Self:
        if self._is_closed_early or (self._running is not None and self._running.is_over):
            raise HubClosedError
        if self._running is not None:
            raise HubAlreadyStartedError
        loop = asyncio.get_running_loop()
        self._running = RunningHub(
            self.config, loop, self._clock or loop, self._listeners, self._hooks
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self, code: int = CloseCode.GOING_AWAY, reason: str = "hub closed") -> None:
        """Close every connection, after what was queued for it, and wait until all are gone.

        First the processes that `run_process` runs for this hub are ended, and their last status
        is published, for which they get ten seconds, or ``close_timeout`` if that is longer. From
        then on the hub takes no new connections and no new messages. The wait for clients is
        bounded by twice ``close_timeout``, and so is that for callbacks that still run: they get it
        to end by themselves, and once more after they were cancelled. A callback that ignores its
        cancellation is logged and left behind. Closing again is harmless, and waits for the same
        end. If the call is cancelled, the closing goes on.

        Args:
            code: The close code that clients get.
            reason: A text for the clients, at most 123 bytes of UTF-8.

        Raises:
            InvalidCloseError: The code or the reason must not be sent.
            ForkedProcessError: The hub belongs to the parent process of this one.
        """
        validate_close(code, reason)
        if self._running is None:
            self._is_closed_early = True
            return
        self._running.check_process()
        await self._running.close(code, reason)

    def serve(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        unix: str | os.PathLike[str] | None = None,
        sockets: Sequence[socket.socket] = (),
        path: str = "/ws",
        ssl: SSLContext | None = None,
        process_request: ProcessRequest | None = None,
    ) -> "Server":
        """Return a server for this hub; ``async with`` it, and it listens.

        Args:
            host: The name or address to listen at.
            port: The TCP port; 0 for any free one, see `Server.port`.
            unix: Instead of both, the path of a unix socket to listen at. A server that listens
                there is relieved. A name that begins with a NUL is an abstract one.
            sockets: Instead of these, bound sockets, as a service manager or a parent process
                passes them on; the server closes them.
            path: The path at which clients connect.
            ssl: For ``wss://``: a context with the server's certificate.
            process_request: Answers plain HTTP requests to other paths.

        Raises:
            ServeError: Not exactly one of host and port, unix and sockets is given.
        """
        from wshub_core.transports.server import Server  # above the facade, so imported on use

        return Server(
            self._get_running, self.config, host, port, unix, sockets, path, ssl, process_request
        )

    def asgi(self) -> "HubApp":
        """Return an ASGI application whose WebSockets are this hub's connections.

        Give it a route where clients connect, as in ``WebSocketRoute("/ws", hub.asgi())`` of
        Starlette, and enter the hub in your application's lifespan. As the outermost application
        it enters the hub itself.
        """
        from wshub_core.transports.asgi import HubApp  # above the facade, so imported on use

        return HubApp(self._get_running, self)

    @property
    def clock(self) -> Clock:
        """What timeouts and the heartbeat go by."""
        return self._clock or asyncio.get_running_loop()

    def _get_running(self) -> RunningHub:
        """Return the running hub; its transports, in this package, call this too.

        Raises:
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed, or its event loop has ended.
            ForkedProcessError: The hub belongs to the parent process of this one.
        """
        if self._running is None:
            raise HubClosedError if self._is_closed_early else HubNotStartedError
        if self._running.is_over:
            raise HubClosedError
        self._running.check_process()
        return self._running

    # Publishing.

    def broadcast(self, message: Message, *, local_only: bool = False) -> None:
        """Queue a message for every connection.

        Args:
            message: Sent as given, but for the timestamp, which the hub sets. Its ``channel`` is
                kept and decides nothing.
            local_only: Whether a bridge leaves it to this hub's own connections.

        Raises:
            InvalidChannelError: The name in the message's ``channel`` is not allowed, and there is
                a bridge: other hubs would drop the message.
            ReservedTypeError: Messages of this type are between one client and its hub.
            InvalidProcessIDError: The message's ``process_id`` is not allowed.
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_message_bytes``.
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
            TypeError: The message is no `Message`.
        """
        self._get_running().publishing.broadcast(message, local_only=local_only)

    def publish(self, channel: str, message: Message, *, local_only: bool = False) -> None:
        """Queue a message for every connection subscribed to a channel.

        A channel without subscribers is no error: the message goes to nobody.

        Args:
            channel: Channel name, 1 to 256 characters of ``A-Za-z0-9_.:-``.
            message: Sent as given, but for ``channel`` and timestamp, which the hub sets.
            local_only: Whether a bridge leaves it to this hub's own connections.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The process id in the channel or the message is not allowed.
            ReservedTypeError: Messages of this type are between one client and its hub.
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_message_bytes``.
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
            TypeError: The message is no `Message`, or the channel no `str`.
        """
        self._get_running().publishing.publish(channel, message, local_only=local_only)

    def publish_event(self, channel: str, data: JSON = None, *, local_only: bool = False) -> None:
        """Publish an event with any data to a channel.

        Raises:
            WSHubError: As `publish` does.
        """
        self.publish(channel, channel_event_message(channel, data), local_only=local_only)

    def send_event(self, name: str, data: JSON = None, *, local_only: bool = False) -> None:
        """Broadcast that something happened, as ``{"event": name, "data": data}``.

        Raises:
            WSHubError: As `broadcast` does.
        """
        self.broadcast(event_message(name, data), local_only=local_only)

    def send_error(self, text: str, *, local_only: bool = False) -> None:
        """Broadcast that something failed.

        Raises:
            WSHubError: As `broadcast` does.
        """
        self.broadcast(error_message(text), local_only=local_only)

    def send_process_output(
        self, process_id: str, line: str, *, overwrites: bool = False, local_only: bool = False
    ) -> None:
        """Publish one line of a process's output to the channel ``process:<process_id>``.

        Args:
            process_id: 1 to 128 characters of ``A-Za-z0-9_.-``.
            line: The line without its end.
            overwrites: Whether the line takes the place of the line before it, as progress
                displays do with a carriage return.
            local_only: Whether a bridge leaves it to this hub's own connections.

        Raises:
            WSHubError: As `publish` does.
        """
        message = process_output_message(process_id, line, overwrites=overwrites)
        self.publish(message.channel, message, local_only=local_only)

    def send_process_status(
        self, process_id: str, status: str, exit_code: int = 0, *, local_only: bool = False
    ) -> None:
        """Publish that a process changed, to the channel ``process:<process_id>``.

        Args:
            process_id: 1 to 128 characters of ``A-Za-z0-9_.-``.
            status: Such as ``running`` or ``exited``.
            exit_code: The exit code; negative for a signal. 0 as long as there is none.
            local_only: Whether a bridge leaves it to this hub's own connections.

        Raises:
            WSHubError: As `publish` does.
        """
        message = process_status_message(process_id, status, exit_code)
        self.publish(message.channel, message, local_only=local_only)

    async def drain(self) -> None:
        """Let what was published be delivered; for programs that publish in a loop.

        Publishing never blocks. Here others get a turn on the event loop, which a loop without an
        ``await`` would keep from them, and a bridge that has more to send than it can gets time
        to send it. An outage of the bridge is not waited for.
        """
        await asyncio.sleep(0)
        if self._running is not None:
            self._running.check_process()
            await self._running.relay.drain()

    # Other hubs.

    @property
    def bridge_port(self) -> BridgePort:
        """The side of the hub for bridges; applications do not need it."""
        return self._bridge_port

    async def subscribe_all(self) -> None:
        """Have a bridge carry the messages of every channel to this hub, from now on.

        For programs that watch all channels of a fleet, such as `LivePage`. The hub then reads
        every message of the fleet. A bridge that cannot do this logs a warning. Like `subscribe`,
        this returns when the messages arrive, or after a second.

        Raises:
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        await self._get_running().relay.subscribe_all()

    def add_publish_listener(self, listener: PublishListener) -> None:
        """Have a function called with every message of a channel that reaches this hub.

        These are the messages that are published here, and those that a bridge delivers. The
        function is called before the message is delivered, so that connections that it subscribes
        with `subscribe_nowait` receive the message. An exception is logged and counted. For
        programs that watch a hub from the inside, such as `LivePage`.
        """
        self._listeners.append(listener)

    def add_shutdown_hook(self, hook: ShutdownHook) -> None:
        """Add a function that is awaited when the hub begins to close.

        The hub still takes messages then. Use a hook for an object that lives with a hub and
        publishes something at its end, such as a process. The hub waits for ten seconds, or for
        ``close_timeout`` if that is longer. An exception is logged and counted.
        """
        self._hooks.append(hook)

    def remove_shutdown_hook(self, hook: ShutdownHook) -> None:
        """Remove a function that `add_shutdown_hook` has added."""
        self._hooks.remove(hook)

    # Subscriptions.

    async def subscribe(self, connection: Connection, channel: str) -> None:
        """Subscribe a connection to a channel, under the rules that hold for its own frames.

        Subscribing again changes nothing, and neither does subscribing a connection that has ended.
        With a bridge it returns when messages of other hubs arrive, too; if the bridge is not up,
        or takes longer than a second, it returns earlier, and they arrive from when they can.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The channel is a process's, and the id is not allowed.
            SubscriptionDeniedError: The channel authorizer said no, or failed.
            SubscriptionLimitError: The connection has ``max_subscriptions`` already.
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        subscriptions = self._get_running().subscriptions
        await subscriptions.subscribe_and_wait(cast("ServerConnection", connection), channel)

    def subscribe_nowait(self, connection: Connection, channel: str) -> None:
        """Start to subscribe a connection to a channel, and do not wait for the end.

        Without a channel authorizer, or with a plain one, the connection is subscribed when this
        returns, or was refused; an async authorizer decides later, and is asked once at a time for
        the same connection and channel. A refusal is not reported. Call it on the hub's event loop.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The channel is a process's, and the id is not allowed.
            TypeError: The channel is no `str`.
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        subscriptions = self._get_running().subscriptions
        subscriptions.subscribe_nowait(cast("ServerConnection", connection), channel)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        """End a connection's subscription to a channel; harmless if there is none.

        Raises:
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        subscriptions = self._get_running().subscriptions
        subscriptions.unsubscribe(cast("ServerConnection", connection), channel)

    # Looking.

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections now, sorted by user id, remote address and id."""
        if self._running is None:
            return ()
        connections = self._running.registry.connections
        return tuple(
            sorted(connections, key=lambda each: (each.user_id, each.remote_address, each.id))
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels that have subscribers now, sorted."""
        return () if self._running is None else self._running.registry.channels

    def subscribers(self, channel: str) -> tuple[Connection, ...]:
        """Return the connections that are subscribed to a channel now, in no order."""
        return (
            () if self._running is None else tuple(self._running.registry.subscribers_of(channel))
        )

    def subscriber_count(self, channel: str) -> int:
        """Return how many connections are subscribed to a channel."""
        return 0 if self._running is None else self._running.registry.subscriber_count(channel)

    def stats(self) -> HubStats:
        """Return what there is now, and what has been done; of this process alone."""
        if self._running is None:
            return HubStats(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        return self._running.stats()


def running_hub(hub: Hub) -> RunningHub:
    """Return the parts of a hub that has been entered, for transports in this package.

    Raises:
        WSHubError: The hub is not running.
    """
    return hub._get_running()
