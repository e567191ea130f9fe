"""One connection of a client to a hub: the frames that it sends, and the payloads that it reads."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias

import msgspec
from websockets.exceptions import ConnectionClosed

from wshub_client.close_policy import is_terminal_close, parse_retry_reason
from wshub_client.errors import (
    ClientError,
    ClosedError,
    LostError,
    NotConnectedError,
    PresenceRefusedError,
    PublishRefusedError,
    SubscriptionRefusedError,
)
from wshub_client.heartbeat import Heartbeat
from wshub_client.hub_socket import HubSocket
from wshub_client.recovery import Gap
from wshub_client.requests import OnOutcome, Requests, may_be_answer
from wshub_client.settings import HeartbeatSettings
from wshub_client.waiting import wait_awake
from wshub_core import Message, MessageDecodeError, MessageType, decode_message
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")

Confirmation: TypeAlias = Callable[[], Gap | None]
"""The confirmation of a subscription, at its place among the messages. The call notes it, and
returns a gap if the hub does not have all messages that the client has asked for."""

_DOUBT_SECONDS = 0.25
"""The shortest wait for an answer with an id after a pong without one, which may be forged."""


class HubConnection:
    """An open WebSocket to a hub.

    Args:
        socket: The WebSocket.
        dial_seconds: The duration of the dial. A round trip takes less time.
        heartbeat: The settings of the heartbeat.
        on_ended: Called when a frame could not be sent, because the connection has ended.
        on_unreadable: Called for each part of a payload that is no message.

    Attributes:
        heartbeat: The heartbeat of the connection.
        request_lock: Held while requests and the ping that follows them are sent. Other requests
            must not come between them, because a pong confirms all requests before its ping.
    """

    __slots__ = (
        "_confirmations",
        "_doubt_seconds",
        "_doubt_timer",
        "_has_ended",
        "_on_ended",
        "_on_unreadable",
        "_requests",
        "_sending",
        "_socket",
        "_take_at_once",
        "heartbeat",
        "request_lock",
    )

    def __init__(
        self,
        socket: HubSocket,
        dial_seconds: float,
        heartbeat: HeartbeatSettings,
        on_ended: Callable[[], None],
        on_unreadable: Callable[[], None],
    ) -> None:
        self.request_lock = asyncio.Lock()
        self._has_ended = False
        self._on_ended = on_ended
        self._on_unreadable = on_unreadable
        self._socket = socket
        self.heartbeat = Heartbeat(
            heartbeat, self._try_ping, self._try_pong, socket.transport.abort
        )
        socket.on_data = self.heartbeat.note_heard
        self._requests = Requests()
        self._confirmations: list[Confirmation] = []
        self._take_at_once: Callable[[Message], bool] = lambda _: False
        self._doubt_seconds = max(_DOUBT_SECONDS, dial_seconds)
        self._doubt_timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    # Frames to the hub.

    async def send_message(self, message: Message, text: str) -> None:
        """Send a message of the application.

        Args:
            message: The message. If it is a ping, its pong is for the application.
            text: The encoded message.

        Raises:
            NotConnectedError: The connection has ended.
        """
        if message.type == MessageType.PING:
            self._requests.ping(is_own=False)
        await self._send(text)

    async def ping(self, on_pong: Callable[[], None] | None = None) -> None:
        """Send a ping, which the hub answers when it has served all earlier frames.

        Raises:
            NotConnectedError: The connection has ended.
        """
        await self._send(_encode(type=MessageType.PING, id=self._requests.ping(on_pong)))

    async def probe(self) -> None:
        """Send a frame that shows at once whether the hub answers ids.

        The answer to a subscription may take long, because the hub may ask another system for
        permission. Unsubscribing from no channel takes no time. Hubs that answer no ids ignore it.

        Raises:
            NotConnectedError: The connection has ended.
        """
        request_id = self._requests.probe()
        await self._send(_encode(type=MessageType.UNSUBSCRIBE, channel="", data="", id=request_id))

    async def subscribe(
        self, channel: str, history: dict[str, object] | None, on_outcome: OnOutcome
    ) -> None:
        """Ask for a subscription; the caller sends a ping afterwards.

        Args:
            channel: The channel.
            history: The part of the history to begin with; None for live messages only.
            on_outcome: Called with the outcome.

        Raises:
            NotConnectedError: The connection has ended.
        """
        request_id = self._requests.ask(channel, SubscriptionRefusedError, on_outcome)
        more = {} if history is None else {"history": history}
        # The oldest hubs of go-ws read the channel from `data`.
        await self._send(
            _encode(type="subscribe", channel=channel, data=channel, id=request_id, **more)
        )

    def add_confirmation(self, confirmation: Confirmation) -> None:
        """Make `process_payload` yield a confirmation at the place of the hub's answer."""
        self._confirmations.append(confirmation)

    async def unsubscribe(self, channel: str) -> None:
        """Ask for the end of a subscription.

        Raises:
            NotConnectedError: The connection has ended.
        """
        self._requests.forget(channel)
        await self._send(_encode(type="unsubscribe", channel=channel, data=channel))

    async def publish(self, message: Message, on_outcome: OnOutcome) -> None:
        """Ask the hub to publish a message, and send a ping after it.

        Raises:
            NotConnectedError: The connection has ended.
        """
        async with self.request_lock:
            request_id = self._requests.ask(message.channel, PublishRefusedError, on_outcome)
            await self._send(_encode(**msgspec.to_builtins(message), id=request_id))
            await self.ping()

    async def ask_presence(self, channel: str, *, count: bool, on_outcome: OnOutcome) -> None:
        """Ask the hub who is present in a channel, and send a ping after it.

        Args:
            channel: The channel.
            count: Whether only the numbers are asked for.
            on_outcome: Called with the outcome.

        Raises:
            NotConnectedError: The connection has ended.
        """
        more = {"data": {"count": True}} if count else {}
        async with self.request_lock:
            request_id = self._requests.ask(channel, PresenceRefusedError, on_outcome)
            await self._send(
                _encode(type=MessageType.PRESENCE, channel=channel, id=request_id, **more)
            )
            await self.ping()

    async def run_to_end(self, sending: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that sends frames which belong together.

        The frames are sent completely even if the caller is cancelled. A request that is noted here
        and never reaches the hub would take the answer to the next one.
        """
        await asyncio.shield(self.spawn(sending))

    def spawn(self, sending: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a coroutine that sends frames in a task of its own."""
        task = asyncio.create_task(sending)
        self._sending.add(task)  # asyncio keeps weak references to tasks only
        task.add_done_callback(self._sending.discard)
        return task

    async def _send(self, text: str) -> None:
        try:
            await self._socket.send(text)
        except ConnectionClosed as error:
            self._note_ended()
            raise NotConnectedError from error

    # Payloads from the hub.

    async def receive(self) -> str | bytes:
        """Return the next payload.

        Raises:
            LostError: The connection has ended, and the client tries again.
            ClosedError: The connection has ended with a terminal close code.
        """
        try:
            return await self._socket.receive()
        except ConnectionClosed as closed:
            raise self._explain(closed) from closed

    def take_at_once(self, take: Callable[[Message], bool]) -> None:
        """Pass on messages as soon as they come, while `receive` waits.

        Args:
            take: Called with a message. Returns whether it has processed the message; if not, it
                has had no effect.
        """
        self._take_at_once = take
        self._socket.take_at_once = self.offer

    def offer(self, payload: str | bytes) -> bool:
        """Pass on a payload that is one message for the application, without waiting.

        Returns:
            Whether the payload has been processed; if not, the call has had no effect.
        """
        if ("\n" in payload) if isinstance(payload, str) else (b"\n" in payload):
            return False
        try:
            message = decode_message(payload)
        except MessageDecodeError:
            return False
        return not may_be_answer(message) and self._take_at_once(message)

    def process_payload(self, payload: str | bytes) -> Iterator[Message | Confirmation | None]:
        """Process the answers in a payload, and yield the messages and the confirmations.

        Hubs of go-ws join several messages with newlines. The method yields None for each part that
        is not for the application, so that a caller can let other tasks run between any two parts.
        """
        for part in _split(payload):
            if not part or part.isspace():
                yield None
                continue
            try:
                message = decode_message(part)
            except MessageDecodeError as error:
                self._on_unreadable()
                logger.warning("skipped %d bytes from the hub that are %s", len(part), error)
                yield None
                continue
            yield from self._requests.take(message, part)
            yield from self._confirmations
            self._confirmations.clear()
            if self._requests.is_unclear and self._doubt_timer is None:
                loop = asyncio.get_running_loop()
                self._doubt_timer = loop.call_later(self._doubt_seconds, self._trust_pongs)

    def _trust_pongs(self) -> None:
        self._requests.trust_pongs()
        # The pong without an id has been processed already, so the hub is asked for another.
        self.spawn(self._try_ping())

    # The life and the end of the connection.

    def has_ended(self) -> bool:
        """Tell whether a frame could not be sent, because the connection has ended."""
        return self._has_ended

    async def close(self, error: ClientError, timeout: float) -> None:
        """Close the connection if it is open, and end all requests with an error."""
        self.heartbeat.stop()
        if self._doubt_timer is not None:
            self._doubt_timer.cancel()
        self._requests.abandon(error)
        # The timeout of `websockets` also counts the time in which the loop stands still.
        self._socket.close_timeout = None
        closing = asyncio.create_task(self._socket.close())
        try:
            await wait_awake(closing, timeout)
        finally:
            if not closing.done():
                self._socket.transport.abort()
            await closing

    async def _try_ping(self) -> None:
        with contextlib.suppress(NotConnectedError):  # `receive` raises the reason
            await self.ping()

    async def _try_pong(self) -> None:
        try:
            await self._socket.pong()
        except ConnectionClosed:
            self._note_ended()

    def _note_ended(self) -> None:
        # The reader may wait for the application, and would notice the end only after that.
        self._has_ended = True
        self._on_ended()

    def _explain(self, closed: ConnectionClosed) -> ClientError:
        if self.heartbeat.failure is not None:
            return self.heartbeat.failure
        close = closed.rcvd
        if close is None:
            # The client has closed first if the hub broke the protocol or sent too large a message.
            return LostError(1006, "" if closed.sent is None else closed.sent.reason)
        if is_terminal_close(close.code):
            return ClosedError(close.code, close.reason)
        return LostError(close.code, close.reason, parse_retry_reason(close.reason))


def _encode(**frame: object) -> str:
    return msgspec.json.encode(frame).decode()


def _split(payload: str | bytes) -> Iterator[bytes]:
    """Yield the lines of a payload one at a time, because there may be millions of them."""
    start = 0
    while start < len(payload):
        end = payload.find("\n", start) if isinstance(payload, str) else payload.find(b"\n", start)
        part = payload[start : len(payload) if end < 0 else end]
        yield part.encode() if isinstance(part, str) else part
        start += len(part) + 1
