"""The hub: the facade that an application uses."""

import asyncio
import os
import socket
from collections.abc import Sequence
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wshub_core.bridge_port import BridgePort
from wshub_core.connections.publishing import PublishListener
from wshub_core.connections.running_hub import RunningHub
from wshub_core.hub_channels import HubChannels
from wshub_core.hub_connections import HubConnections
from wshub_core.hub_monitoring import HubMonitoring
from wshub_core.hub_operation import HubOperation
from wshub_core.loop.clock import Clock
from wshub_core.loop.shutdown import ShutdownHook
from wshub_core.transports.asgi_messages import ASGIApp
from wshub_core.values.auth import Authenticator
from wshub_core.values.channel_patterns import ChannelPatterns
from wshub_core.values.closing import CloseCode, validate_close
from wshub_core.values.config import HubConfig
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

if TYPE_CHECKING:
    from wshub_core.transports.asgi import HubApp
    from wshub_core.transports.server import Server


class Hub(HubChannels, HubConnections, HubMonitoring, HubOperation):
    """The connections, channels and subscriptions of one process.

    Enter the hub before use; it then belongs to that event loop::

        async with Hub() as hub, hub.serve("localhost", 8080) as server:
            hub.send_event("deploy:started")
            await server.serve_forever()

    Publishing methods are plain functions, and safe to call from any thread. They check, encode and
    queue a message, and never wait. A connection receives the messages of one thread in the order
    of the calls, and each message at most once. This holds across broadcasts, channel messages and
    replies.

    Methods that publish or subscribe raise `HubNotStartedError` before the hub is entered,
    `HubClosedError` after its end, and `ForkedProcessError` in a forked child.

    Args:
        config: The settings; the defaults if None.
        clock: The clock of timeouts and of the heartbeat; the event loop if None. Tests pass a
            `wshub_core.testing.ManualClock`.
    """

    def __init__(self, config: HubConfig | None = None, *, clock: Clock | None = None) -> None:
        self.config = config or HubConfig()
        self._history_patterns = ChannelPatterns("HubConfig.history", self.config.history)
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
            self.config,
            self._history_patterns,
            loop,
            self._clock or loop,
            self._listeners,
            self._hooks,
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
        """Send the queued messages, close every connection, and wait until all have ended.

        First the shutdown hooks run, for at most ten seconds, or ``close_timeout`` if that is
        longer. The hook of `run_process` ends the process and publishes its last status. From then
        on the hub takes no new connections and no new messages.

        The wait for clients is bounded by twice ``close_timeout``. Callbacks that still run get
        ``close_timeout`` to end by themselves, and the same again after they are cancelled. An
        ``on_disconnect`` that had to wait for such a callback gets the same times. A callback that
        ignores its cancellation is logged and left behind.

        A second call waits for the same end. If a call is cancelled, the closing goes on.

        Args:
            code: The close code for the clients.
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
        path: str | None = "/ws",
        ssl: SSLContext | None = None,
        process_request: ProcessRequest | None = None,
        http_app: ASGIApp | None = None,
    ) -> "Server":
        """Return a server for this hub; the server listens inside ``async with``.

        Give exactly one of host and port, ``unix``, and ``sockets``.

        Args:
            host: The name or address to listen at.
            port: The TCP port; 0 for any free port, see `Server.port`.
            unix: The path of a unix socket to listen at. The server takes the path over from a
                server that listens there. A leading NUL stands for an abstract socket.
            sockets: Bound sockets from a service manager or a parent process; the server closes
                them.
            path: The path at which clients connect; None for a server without WebSockets, such as
                one for an HTTP application alone.
            ssl: A context with the server's certificate, for ``wss://``.
            process_request: Answers plain HTTP requests to other paths.
            http_app: An ASGI application for plain HTTP requests to other paths, instead of
                ``process_request``. Its lifespan is not run.

        Raises:
            ServeError: The arguments name no address, or more than one.
        """
        from wshub_core.transports.server import Server  # a hub without a server does not load it

        return Server(
            self._get_running,
            self.config,
            host,
            port,
            unix,
            sockets,
            path,
            ssl,
            process_request,
            http_app,
        )

    def asgi(self) -> "HubApp":
        """Return an ASGI application whose WebSockets are this hub's connections.

        Mount it at the path at which clients connect, as in ``WebSocketRoute("/ws", hub.asgi())``
        of Starlette, and enter the hub in your application's lifespan. If it is the outermost
        application, it enters the hub itself.
        """
        from wshub_core.transports.asgi import HubApp  # a hub outside of ASGI does not load it

        return HubApp(self._get_running, self)

    def api(self, authenticator: Authenticator) -> ASGIApp:
        """Return an ASGI application with the HTTP API of this hub.

        Mount it in your application, or serve it with ``hub.serve(http_app=…)``.

        Args:
            authenticator: The authenticator of the clients of the API. A client may use the
                operations of the scopes in its claim ``scopes``, a list of ``publish``, ``read``
                and ``manage``; without the claim it may use none.

        Raises:
            InvalidConfigError: The authenticator is not a function.
        """
        from wshub_core.endpoints.api.app import API  # a hub without the API does not load it

        return API(self, authenticator, self._get_running)

    def sse(self) -> ASGIApp:
        """Return an ASGI application whose responses are event streams (server-sent events).

        A request names channels, as in ``GET /sse?channel=news``. Each client is a connection of
        this hub, under the same rules as a WebSocket. Mount the application at a path of your own,
        as in ``Route("/sse", hub.sse())`` of Starlette, or serve it with
        ``hub.serve(http_app=…)``.
        """
        from wshub_core.endpoints.event_stream import EventStreamApp  # only if it is used

        return EventStreamApp(self._get_running)

    @property
    def clock(self) -> Clock:
        """The clock of timeouts and of the heartbeat."""
        return self._clock or asyncio.get_running_loop()

    def _get_running(self) -> RunningHub:
        """Return the parts of the hub, which exist while it runs and its event loop lives."""
        if self._running is None:
            raise HubClosedError if self._is_closed_early else HubNotStartedError
        self._running.check()
        return self._running

    # Publishing.

    def broadcast(self, message: Message, *, local_only: bool = False) -> None:
        """Queue a message for every connection.

        Args:
            message: The message. The hub sets its timestamp and keeps its ``channel``, which does
                not select the receivers.
            local_only: Whether only connections of this hub receive the message.

        Raises:
            InvalidChannelError: The message names an invalid channel, and there is a bridge: other
                hubs would drop the message.
            WSHubError: As `publish` does.
            TypeError: The message is not a `Message`.
        """
        self._get_running().publishing.broadcast(message, local_only=local_only)

    def publish(self, channel: str, message: Message, *, local_only: bool = False) -> None:
        """Queue a message for every connection subscribed to a channel.

        Publishing to a channel without subscribers is not an error.

        Args:
            channel: Channel name, 1 to 256 characters of ``A-Za-z0-9_.:-``.
            message: The message. The hub sets its ``channel`` and its timestamp.
            local_only: Whether only connections of this hub receive the message.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The process id in the channel or the message is not allowed.
            ReservedTypeError: Messages of this type are between one client and its hub.
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_message_bytes``.
            TypeError: The message is not a `Message`, or the channel is not a `str`.
        """
        self._get_running().publishing.publish(channel, message, local_only=local_only)

    def publish_event(self, channel: str, data: JSON = None, *, local_only: bool = False) -> None:
        """Publish an event to a channel; raise the errors of `publish`."""
        self.publish(channel, channel_event_message(channel, data), local_only=local_only)

    def send_event(self, name: str, data: JSON = None, *, local_only: bool = False) -> None:
        """Broadcast ``{"event": name, "data": data}``; raise the errors of `broadcast`."""
        self.broadcast(event_message(name, data), local_only=local_only)

    def send_error(self, text: str, *, local_only: bool = False) -> None:
        """Broadcast the text of an error; raise the errors of `broadcast`."""
        self.broadcast(error_message(text), local_only=local_only)

    def send_process_output(
        self, process_id: str, line: str, *, overwrites: bool = False, local_only: bool = False
    ) -> None:
        """Publish one line of a process's output to the channel ``process:<process_id>``.

        Args:
            process_id: 1 to 128 characters of ``A-Za-z0-9_.-``.
            line: The line without its end.
            overwrites: Whether the line replaces the line before it, as progress displays do with a
                carriage return.
            local_only: Whether only connections of this hub receive the message.

        Raises:
            WSHubError: As `publish` does.
        """
        message = process_output_message(process_id, line, overwrites=overwrites)
        self.publish(message.channel, message, local_only=local_only)

    def send_process_status(
        self, process_id: str, status: str, exit_code: int = 0, *, local_only: bool = False
    ) -> None:
        """Publish the status of a process to the channel ``process:<process_id>``.

        Args:
            process_id: 1 to 128 characters of ``A-Za-z0-9_.-``.
            status: The status, such as ``running`` or ``exited``.
            exit_code: The exit code; negative for a signal, 0 before the exit.
            local_only: Whether only connections of this hub receive the message.

        Raises:
            WSHubError: As `publish` does.
        """
        message = process_status_message(process_id, status, exit_code)
        self.publish(message.channel, message, local_only=local_only)

    async def drain(self) -> None:
        """Give the hub and its bridge time to deliver; for programs that publish in a loop.

        A loop of publishing calls without an ``await`` blocks the event loop. This method gives
        other tasks a turn, and waits while the bridge is behind. It does not wait for the end of a
        bridge's outage.
        """
        await asyncio.sleep(0)
        if self._running is not None:
            self._running.check_process()
            await self._running.relay.drain()

    # Other hubs.

    @property
    def bridge_port(self) -> BridgePort:
        """The interface of the hub for bridges; applications do not need it."""
        return self._bridge_port

    def deliver(self, channel: str, payload: bytes) -> None:
        """Deliver a message from elsewhere to this hub's own clients; see `BridgePort.deliver`.

        Bridges use their port. This method is for programs that receive messages without one.
        """
        self._bridge_port.deliver(channel, payload)

    async def subscribe_all(self) -> None:
        """Receive the messages of every channel from the other hubs, from now on.

        Programs that watch all channels of a fleet need this, such as `LivePage`. The hub then
        reads every message of the fleet. A bridge without this ability logs a warning. Like
        `subscribe`, this method returns when the messages arrive, or after a second.
        """
        await self._get_running().relay.subscribe_all()

    def add_publish_listener(self, listener: PublishListener) -> None:
        """Add a function that is called with every message of a channel that reaches this hub.

        It is called with messages that are published here and with messages from a bridge, before
        their delivery: connections that it subscribes with `subscribe_nowait` receive the message.
        An exception is logged and counted. `LivePage` watches its hub with such a function.
        """
        self._listeners.append(listener)

    def remove_publish_listener(self, listener: PublishListener) -> None:
        """Remove a function that `add_publish_listener` has added."""
        self._listeners.remove(listener)

    def add_shutdown_hook(self, hook: ShutdownHook) -> None:
        """Add a function that is awaited when the hub begins to close.

        The hub still takes messages then. Use a hook for an object that publishes something at its
        end, such as a process. The hub waits for at most ten seconds, or ``close_timeout`` if that
        is longer. An exception is logged and counted.
        """
        self._hooks.append(hook)

    def remove_shutdown_hook(self, hook: ShutdownHook) -> None:
        """Remove a hook that `add_shutdown_hook` has added."""
        self._hooks.remove(hook)


def running_hub(hub: Hub) -> RunningHub:
    """Return the parts of a running hub, for the clients in memory of `wshub_core.testing`."""
    return hub._get_running()
