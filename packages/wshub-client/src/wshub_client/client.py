"""The reconnecting client, the public class of this package for asyncio."""

import ssl as tls
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from wshub_client.addresses import Proxy
from wshub_client.callbacks import Callbacks
from wshub_client.drop_reports import DropReports
from wshub_client.errors import ClientClosedError
from wshub_client.inbox import InboxOverflow
from wshub_client.lifetime import Lifetime
from wshub_client.opening import Opener
from wshub_client.receiving import Receiver
from wshub_client.reconnect import ConnectionState, ReconnectLoop
from wshub_client.recovery import Gap
from wshub_client.send_queue import QueueLimits
from wshub_client.sending import Sender
from wshub_client.settings import (
    DialSettings,
    FlowSettings,
    Handlers,
    HeartbeatSettings,
    RetrySettings,
    Token,
)
from wshub_client.subscriptions import Subscriptions
from wshub_core import JSON, Clock, Message, MessageType, Position, Presence

_GO_BATCH_BYTES = 257 * 65_537
"""The largest WebSocket message of a go-ws hub, which joins all queued messages: 256 from a full
queue and one more, each of 65,536 bytes and a newline."""


class ReconnectingClient:
    """A client of a hub that reconnects by itself and restores its subscriptions.

    Enter the client, subscribe, and iterate over the messages::

        async with ReconnectingClient("ws://localhost:8080/ws", token="secret-key-1") as client:
            await client.subscribe("process:build-42")
            async for message in client:
                print(message.data)

    Or pass callbacks and call `run`. Callbacks are plain or async functions. The client calls them
    one after the other, in the order of the events, so a slow callback delays the later ones. When
    ``inbox_size`` messages wait for a callback, the client stops reading until there is room.

    An exception in a callback is logged and counted, and the client goes on. ``KeyboardInterrupt``
    and ``SystemExit`` are also raised in the event loop.

    A client belongs to one event loop. `wshub_client.BlockingClient` is the client for programs
    without an event loop. A process that is forked after the start of a client cannot use it: every
    call raises `wshub_core.ForkedProcessError` there.

    Args:
        url: The address of the hub, ``ws://`` or ``wss://``.
        token: The token, sent as ``Authorization: Bearer`` with every dial. A function is called at
            every dial, so that it can return a fresh token.
        headers: Further headers of the handshake.
        origin: The ``Origin`` header, for hubs that require one.
        ssl: The TLS context for ``wss://`` addresses; the certificates of the system by default.
        proxy: The address of a proxy: ``http://``, ``https://``, or ``socks5://`` (which needs
            ``python-socks``). True uses the proxy of the environment (``https_proxy`` and similar
            variables) for hubs on other machines. None uses no proxy.
        initial_backoff: The longest wait after the first failure, in seconds.
        max_backoff: The longest wait after any number of failures, in seconds.
        backoff_multiplier: The factor by which the longest wait grows with each failure.
        max_attempts: The number of tolerated failures in a row; None for any number.
        stable_after: The duration of a connection, in seconds, after which failures are forgotten.
        open_timeout: The longest time for a dial, in seconds, including the hub's first answer.
        close_timeout: The longest time for the closing handshake, in seconds, and again for
            callbacks that still run.
        heartbeat_interval: The silence, in seconds, after which the client pings the hub.
        pong_timeout: The longest wait for an answer to this ping, in seconds.
        max_message_bytes: The largest WebSocket message from the hub, in bytes. Hubs of go-ws join
            several messages in one. The default fits their largest: 257 messages of 64 KiB each.
            The client holds at most three such WebSocket messages while the application is slow.
        max_send_bytes: The largest message to the hub, in bytes. Hubs take 64 KiB by default.
        queue: The bounds of the messages that wait for a connection. Without it, `send` raises
            ``NotConnectedError`` when there is no connection.
        inbox_size: The number of messages that may wait for the application.
        overflow: The policy for further messages. ``"wait"`` stops reading until there is room.
            ``"drop_oldest"`` and ``"drop_newest"`` drop messages, and count and report them. With
            ``"wait"``, the inbox has room for sixteen times as many messages while the application
            waits for an answer of the hub.
        on_connect: Called when the client is connected for the first time.
        on_reconnect: Called when the client is connected again, with the number of dials.
        on_disconnect: Called when a connection has ended.
        on_error: Called with every error that no call raises: failed dials, lost connections,
            refused subscriptions, dropped messages, and the error that ends the client.
        on_gap: Called with a `Gap` when messages of a channel with history are missing, before
            ``on_message`` is called with the messages behind it.
        on_message: Called with each message. Without it, iterate or call `receive`.
        on_raw: Called with each WebSocket message as it was read. It may contain several messages
            of a go-ws hub.
        clock: The clock for backoff, heartbeat and queue; the event loop by default.

    Raises:
        InvalidConfigError: The address or a setting is not valid.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        ssl: tls.SSLContext | None = None,
        proxy: Proxy = True,
        initial_backoff: float = 1.0,
        max_backoff: float = 30.0,
        backoff_multiplier: float = 2.0,
        max_attempts: int | None = None,
        stable_after: float = 10.0,
        open_timeout: float = 10.0,
        close_timeout: float = 5.0,
        heartbeat_interval: float = 25.0,
        pong_timeout: float = 10.0,
        max_message_bytes: int = _GO_BATCH_BYTES,
        max_send_bytes: int = 65_536,
        queue: QueueLimits | None = None,
        inbox_size: int = 1_024,
        overflow: InboxOverflow = "wait",
        on_connect: Callable[[], object] | None = None,
        on_reconnect: Callable[[int], object] | None = None,
        on_disconnect: Callable[[], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        on_gap: Callable[[Gap], object] | None = None,
        on_message: Callable[[Message], object] | None = None,
        on_raw: Callable[[str | bytes], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        dial = DialSettings(
            *(url, token, dict(headers or {}), origin, ssl, proxy),
            *(open_timeout, close_timeout, max_message_bytes),
        )
        retry = RetrySettings(
            initial_backoff, max_backoff, backoff_multiplier, max_attempts, stable_after
        )
        heartbeat = HeartbeatSettings(heartbeat_interval, pong_timeout, clock)
        flow = FlowSettings(max_send_bytes, queue, inbox_size, overflow)
        handlers = Handlers(
            on_connect, on_reconnect, on_disconnect, on_error, on_gap, on_message, on_raw
        )
        self._assemble(dial, retry, heartbeat, flow, handlers)

    def _assemble(
        self,
        dial: DialSettings,
        retry: RetrySettings,
        heartbeat: HeartbeatSettings,
        flow: FlowSettings,
        handlers: Handlers,
    ) -> None:
        """Make the parts of the client, from the application's side to the network."""
        lifetime = Lifetime()
        self._callbacks = Callbacks(handlers, flow.inbox_size, flow.overflow)
        drops = DropReports(self._callbacks.report)
        self._receiver = Receiver(flow, self._callbacks, drops, lifetime)
        read_ahead = self._receiver.read_ahead
        self._sender = Sender(flow, drops, lifetime, read_ahead, heartbeat.get_clock)
        self._subscriptions = Subscriptions(
            lifetime, self._callbacks.report, read_ahead, self._receiver.find_waiting
        )
        self._reconnect_loop = ReconnectLoop(
            retry,
            dial.close_timeout,
            heartbeat.get_clock,
            Opener(dial, heartbeat, self._subscriptions, self._receiver),
            self._subscriptions,
            self._sender,
            self._receiver,
            self._callbacks,
            lifetime,
        )

    # The start and the end.

    async def __aenter__(self) -> Self:
        """Start the client, and wait for the first connection.

        Raises:
            ClientError: The client has ended instead.
        """
        await self._reconnect_loop.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def run(self) -> None:
        """Stay connected until `close` is called, or until an error ends the client.

        Cancelling `run` closes the client.

        Raises:
            ClientError: The error that has ended the client: ``RefusedError``, ``ClosedError`` or
                ``RetriesExhaustedError``.
        """
        await self._reconnect_loop.run()

    async def close(self) -> None:
        """Close the client at any moment; further calls do nothing.

        If the client is connected, the hub gets the close code 1000. The client still calls the
        callbacks for everything that has come by then, for at most ``close_timeout`` seconds. When
        a callback calls `close`, the call does not wait for callbacks.
        """
        await self._reconnect_loop.close()

    async def wait_connected(self) -> None:
        """Wait until the client is connected; return at once if it is.

        Raises:
            ClientClosedError: The client has been closed.
            ClientError: The error that has ended the client.
        """
        await self._reconnect_loop.wait_connected()

    @property
    def state(self) -> ConnectionState:
        """The state of the client."""
        return self._reconnect_loop.state

    # Channels and messages.

    @property
    def channels(self) -> tuple[str, ...]:
        """The subscribed channels, sorted, including those that the hub has yet to confirm."""
        return self._subscriptions.channels

    @property
    def dropped_messages(self) -> int:
        """Number of dropped messages from the hub.

        The application was too slow for them, or they came on a dial that has failed.
        """
        return self._receiver.dropped

    @property
    def duplicate_messages(self) -> int:
        """Number of messages of a history that came twice, and were dropped."""
        return self._subscriptions.duplicates

    @property
    def unreadable_messages(self) -> int:
        """Number of parts of WebSocket messages that were no messages, and were skipped."""
        return self._receiver.unreadable

    @property
    def callback_errors(self) -> int:
        """Number of callbacks that have raised an exception."""
        return self._callbacks.errors

    async def subscribe(
        self,
        channel: str,
        *,
        confirm: bool = False,
        last: int | None = None,
        since: int | Position | None = None,
    ) -> None:
        """Subscribe to a channel, now and after every reconnect.

        If the hub keeps a history of the channel, the client gets every message once, also across
        reconnects. ``on_gap`` is called if messages are missing. A second call for a subscribed
        channel does not change its position.

        Args:
            channel: 1 to 256 characters of ``A-Za-z0-9_.:-``.
            confirm: Whether to wait until the hub has confirmed the subscription, across reconnects
                if necessary. Without it, a refusal goes to ``on_error``.
            last: The number of messages of the history to begin with.
            since: The offset behind which the messages begin, 0 for the beginning of the history;
                or a position from `position`. Without ``last`` and ``since``, new messages only.

        Raises:
            InvalidChannelError: The name of the channel is not valid.
            InvalidHistoryRequestError: ``last`` or ``since`` is invalid, or both are given.
            SubscriptionRefusedError: With ``confirm``: the hub refuses the subscription.
            ClientClosedError: The client has been closed, or is closed while this call waits.
            ClientError: The error that ends the client while this call waits.
        """
        await self._subscriptions.subscribe(channel, confirm=confirm, last=last, since=since)

    async def unsubscribe(self, channel: str) -> None:
        """End the subscription to a channel; do nothing if there is none."""
        await self._subscriptions.unsubscribe(channel)

    def position(self, channel: str) -> Position | None:
        """Return the position in the history of a channel, also after the end of the client.

        The position is behind the last message that the application has received: which `receive`
        has returned, or with which ``on_message`` was called. Messages that wait in the inbox come
        later. Pass the position to `subscribe` in a later run to go on there.

        Returns:
            The position. None if the channel is not subscribed or has no history. Until the first
            answer of the hub, the position that `subscribe` was called with, or None.
        """
        return self._subscriptions.position(channel)

    async def send(self, message: Message) -> None:
        """Send a message as it is.

        Raises:
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_send_bytes``.
            NotConnectedError: There is neither a connection nor a queue.
            ClientClosedError: The client has been closed.
        """
        await self._sender.send(message)

    async def publish(self, channel: str, data: JSON = None) -> None:
        """Publish an event to a channel, and wait for the answer of the hub.

        Hubs publish the messages of clients that their ``publish_authorizer`` permits.

        Raises:
            InvalidChannelError: The name of the channel is not valid.
            MessageEncodeError: The data cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_send_bytes``.
            PublishRefusedError: The hub refuses the message.
            NotConnectedError: There is no connection.
            LostError: The connection was lost before the answer. The hub may have published the
                message.
            ClientClosedError: The client has been closed.
        """
        await self.publish_message(Message(type=MessageType.EVENT, channel=channel, data=data))

    async def publish_message(self, message: Message) -> None:
        """Publish a message to its channel; `publish` does the same with an event.

        Raises:
            ClientError: The message could not be published; see `publish`.
        """
        await self._sender.publish(message)

    async def presence(self, channel: str, *, count: bool = False) -> Presence:
        """Ask the hub who is present in a channel, and wait for the answer.

        Args:
            channel: The channel.
            count: Whether to ask for the numbers only, without members.

        Raises:
            InvalidChannelError: The name of the channel is not valid.
            PresenceRefusedError: The hub does not tell who is present.
            NotConnectedError: There is no connection.
            LostError: The connection was lost before the answer.
            ClientClosedError: The client has been closed.
        """
        return await self._sender.ask_presence(channel, count=count)

    def check_size(self, message: Message) -> None:
        """Check that a message can be published.

        Raises:
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message, with the 64 bytes that client and hub may
                add, exceeds ``max_send_bytes``.
        """
        self._sender.check_size(message)

    async def receive(self) -> Message:
        """Wait for the next message, and return it.

        Raises:
            ClientClosedError: The client has been closed, and there are no more messages.
            ClientError: The error that has ended the client, when there are no more messages.
        """
        return await self._receiver.receive()

    def put_back(self, message: Message) -> None:
        """Make `receive` return a message again, because its receiver was interrupted."""
        self._receiver.put_back(message)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except ClientClosedError:
            raise StopAsyncIteration from None
