"""The hub: what an application holds in its hands."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import msgspec

from wshub_core.runtime.connection import Connection
from wshub_core.runtime.manager import ConnectionManager
from wshub_core.runtime.native import NativeAcceptor, ProcessRequest
from wshub_core.state.prepared import PreparedMessage
from wshub_core.values.channels import process_channel, validate_channel, validate_process_id
from wshub_core.values.closing import CloseCode, validate_close
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import (
    HubClosedError,
    HubNotStartedError,
    MessageTooLargeError,
)
from wshub_core.values.messages import JSON, Message, MessageType, encode_message

if TYPE_CHECKING:
    from wshub_core.edges.serve import Server

PublishListener: TypeAlias = Callable[[str, Message], None]
"""Called on the hub's loop with every channel and message published; must not block."""


@dataclass(frozen=True, slots=True)
class HubStats:
    """How many are there now.

    Attributes:
        clients: Connections.
        channels: Channels that have subscribers.
        subscribers: Subscriptions: a connection counts once for each of its channels.
    """

    clients: int
    channels: int
    subscribers: int


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
    """

    def __init__(self, config: HubConfig | None = None) -> None:
        self.config = config or HubConfig()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._manager: ConnectionManager | None = None
        self._is_closed = False
        self._listeners: list[PublishListener] = []

    async def __aenter__(self) -> Self:
        if self._is_closed:
            raise HubClosedError
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._manager = ConnectionManager(self.config, self._loop)
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

        The hub takes no new connections and no new messages from this call on. The wait is bounded
        by ``close_timeout``. Closing again is harmless.

        Args:
            code: The close code that clients get.
            reason: A text for the clients, at most 123 bytes of UTF-8.

        Raises:
            InvalidCloseError: The code or the reason must not be sent.
        """
        validate_close(code, reason)
        self._is_closed = True
        if self._manager is not None:
            await self._manager.close_all(code, reason)

    def serve(
        self,
        host: str,
        port: int,
        *,
        path: str = "/ws",
        ssl: SSLContext | None = None,
        process_request: ProcessRequest | None = None,
    ) -> "Server":
        """Return a server for this hub; ``async with`` it, and it listens.

        Args:
            host: The name or address to listen at.
            port: The TCP port; 0 for any free one, see `Server.port`.
            path: The path at which clients connect.
            ssl: For ``wss://``: a context with the server's certificate.
            process_request: Answers plain HTTP requests to other paths.
        """
        from wshub_core.edges.serve import Server  # an edge, reached from the face of the hub

        return Server(self, host, port, path=path, ssl=ssl, process_request=process_request)

    def make_acceptor(self, path: str, process_request: ProcessRequest | None) -> NativeAcceptor:
        """Return what makes transports for a listening socket; `serve` is what applications use."""
        return NativeAcceptor(
            self._running_manager(), self.config, asyncio.get_running_loop(), path, process_request
        )

    # Publishing.

    def broadcast(self, message: Message) -> None:
        """Queue a message for every connection.

        Args:
            message: Sent as given, but for the timestamp, which the hub sets. Its ``channel`` is
                kept and decides nothing.

        Raises:
            InvalidProcessIDError: The message's ``process_id`` is not allowed.
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_message_bytes``.
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        manager = self._running_manager()
        _, prepared = self._prepare(message, message.channel)
        self._call_on_loop(lambda: manager.broadcast(prepared))

    def publish(self, channel: str, message: Message) -> None:
        """Queue a message for every connection subscribed to a channel.

        A channel without subscribers is no error: the message goes to nobody.

        Args:
            channel: Channel name, 1 to 256 characters of ``A-Za-z0-9_.:-``.
            message: Sent as given, but for ``channel`` and timestamp, which the hub sets.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The process id in the channel or the message is not allowed.
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_message_bytes``.
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        manager = self._running_manager()
        validate_channel(channel)
        stamped, prepared = self._prepare(message, channel)

        def deliver() -> None:
            manager.publish(channel, prepared)
            for listener in self._listeners:
                listener(channel, stamped)

        self._call_on_loop(deliver)

    def send_event(self, name: str, data: JSON = None) -> None:
        """Broadcast that something happened, as ``{"event": name, "data": data}``.

        Raises:
            WSHubError: As `broadcast` does.
        """
        self.broadcast(Message(type=MessageType.EVENT, data={"data": data, "event": name}))

    def send_error(self, text: str) -> None:
        """Broadcast that something failed.

        Raises:
            WSHubError: As `broadcast` does.
        """
        self.broadcast(Message(type=MessageType.ERROR, data=text))

    def send_process_output(self, process_id: str, line: str) -> None:
        """Publish one line of a process's output to the channel ``process:<process_id>``.

        Raises:
            WSHubError: As `publish` does.
        """
        self.publish(
            process_channel(process_id),
            Message(type=MessageType.PROCESS_OUTPUT, process_id=process_id, data=line),
        )

    def send_process_status(self, process_id: str, status: str, exit_code: int = 0) -> None:
        """Publish that a process changed, to the channel ``process:<process_id>``.

        Args:
            process_id: 1 to 128 characters of ``A-Za-z0-9_.-``.
            status: Such as ``running`` or ``exited``.
            exit_code: The exit code; negative for a signal. 0 as long as there is none.

        Raises:
            WSHubError: As `publish` does.
        """
        self.publish(
            process_channel(process_id),
            Message(
                type=MessageType.PROCESS_STATUS,
                process_id=process_id,
                data={"exitCode": exit_code, "status": status},
            ),
        )

    def add_publish_listener(self, listener: PublishListener) -> None:
        """Have a function called with every message that is published to a channel.

        For programs that watch a hub from the inside, such as `LivePage`.
        """
        self._listeners.append(listener)

    # Subscriptions.

    async def subscribe(self, connection: Connection, channel: str) -> None:
        """Subscribe a connection to a channel, under the rules that hold for its own frames.

        Subscribing again changes nothing, and neither does subscribing a connection that has ended.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The channel is a process's, and the id is not allowed.
            SubscriptionDeniedError: The channel authorizer said no, or failed.
            SubscriptionLimitError: The connection has ``max_subscriptions`` already.
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        await self._running_manager().subscribe(connection, channel)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        """End a connection's subscription to a channel; harmless if there is none.

        Raises:
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        self._running_manager().unsubscribe(connection, channel)

    # Looking.

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections now, sorted by remote address."""
        if self._manager is None:
            return ()
        return tuple(
            sorted(self._manager.registry.connections, key=lambda each: each.remote_address)
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels that have subscribers now, sorted."""
        return () if self._manager is None else self._manager.registry.channels

    def subscriber_count(self, channel: str) -> int:
        """Return how many connections are subscribed to a channel."""
        return 0 if self._manager is None else self._manager.registry.subscriber_count(channel)

    def stats(self) -> HubStats:
        """Return how many connections, channels and subscriptions there are now."""
        if self._manager is None:
            return HubStats(0, 0, 0)
        registry = self._manager.registry
        return HubStats(len(registry), registry.channel_count, registry.subscription_count)

    # Helpers.

    def _running_manager(self) -> ConnectionManager:
        if self._is_closed:
            raise HubClosedError
        if self._manager is None:
            raise HubNotStartedError
        return self._manager

    def _prepare(self, message: Message, channel: str) -> tuple[Message, PreparedMessage]:
        if message.process_id:
            validate_process_id(message.process_id)
        stamped = msgspec.structs.replace(message, channel=channel, timestamp=datetime.now(UTC))
        payload = encode_message(stamped)
        limit = self.config.max_message_bytes
        if len(payload) > limit:
            raise MessageTooLargeError(len(payload), limit)
        return stamped, PreparedMessage(payload)

    def _call_on_loop(self, call: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread_id:
            call()
            return
        assert self._loop is not None, "a running hub has a loop"
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError as exc:  # the loop ended without the hub having been closed
            raise HubClosedError from exc
