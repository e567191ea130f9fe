"""One connection of a client: what it asks, what it hears, and when it is dead."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import cast

import msgspec
from websockets.exceptions import ConnectionClosed

from wshub_client.dialing import HubSocket
from wshub_client.errors import ClientError, ClosedError, LostError, NotConnectedError
from wshub_client.requests import Requests, Settle
from wshub_client.verdicts import is_final_close, read_retry_reason
from wshub_client.waiting import STANDSTILL_SECONDS, wait_awake
from wshub_core import Clock, Message, MessageDecodeError, MessageType, Timer, decode_message
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")

_PLAIN_SECONDS = 0.25
"""How long an answer with an id may be overtaken by a pong without one, which may be made up."""


class Link:
    """An open WebSocket to a hub.

    Args:
        socket: The WebSocket.
        dial_seconds: How long the dial took, which is longer than a round trip.
        clock: What the heartbeat goes by.
        heartbeat_interval: After how many seconds of silence the hub is pinged.
        pong_timeout: How many more seconds it has.
        on_over: Called when something could not be sent.

    Attributes:
        asking: Held while a request and the ping that follows it are sent, so that no other request
            comes between them.
        unreadable: How many parts of what the hub sent are no messages.
    """

    def __init__(
        self,
        socket: HubSocket,
        dial_seconds: float,
        clock: Clock,
        heartbeat_interval: float,
        pong_timeout: float,
        on_over: Callable[[], None],
    ) -> None:
        self.asking = asyncio.Lock()
        self.unreadable = 0
        self._is_over = False
        self._on_over = on_over
        self._is_held = False
        self._socket = socket
        socket.on_data = self._note_heard
        self._clock = clock
        self._heartbeat_interval = heartbeat_interval
        self._pong_timeout = pong_timeout
        self._requests = Requests()
        self._plain_seconds = max(_PLAIN_SECONDS, dial_seconds)
        self._deciding: asyncio.TimerHandle | None = None
        self._last_heard = clock.time()
        self._pinged_at = self._last_heard
        self._due = self._last_heard
        self._timer: Timer | None = None
        self._failure: ClientError | None = None
        self._beating: asyncio.Task[None] | None = None

    # What the client says.

    async def send(self, text: str) -> None:
        """Send the text of a frame.

        Raises:
            NotConnectedError: The connection has ended.
        """
        try:
            await self._socket.send(text)
        except ConnectionClosed as error:
            self._note_over()
            raise NotConnectedError from error

    async def send_message(self, message: Message, text: str) -> None:
        """Send a message of the application, whose pongs are the application's too."""
        if message.type == MessageType.PING:
            self._requests.ping(is_own=False)
        await self.send(text)

    async def ping(self, on_pong: Callable[[], None] | None = None) -> None:
        """Have the hub answer, when it has served all that was sent before."""
        await self.send(_encode(type=MessageType.PING, id=self._requests.ping(on_pong)))

    async def probe(self) -> None:
        """Have the hub answer at once if it answers ids; other hubs do nothing.

        A hub may take long to answer a subscription, which it has authorized elsewhere. The end of
        a subscription to no channel at all takes no time.
        """
        request_id = self._requests.probe()
        await self.send(_encode(type=MessageType.UNSUBSCRIBE, channel="", data="", id=request_id))

    async def subscribe(self, channel: str, settle: Settle) -> None:
        """Ask for a channel; a ping has to follow."""
        request_id = self._requests.ask(channel, settle, is_subscription=True)
        # The oldest hubs read the channel from `data`.
        await self.send(_encode(type="subscribe", channel=channel, data=channel, id=request_id))

    async def unsubscribe(self, channel: str) -> None:
        """Ask for no more of a channel."""
        self._requests.forget(channel)
        await self.send(_encode(type="unsubscribe", channel=channel, data=channel))

    async def publish(self, message: Message, settle: Settle) -> None:
        """Ask the hub to publish a message; a ping has to follow."""
        request_id = self._requests.ask(message.channel, settle, is_subscription=False)
        await self.send(_encode(**msgspec.to_builtins(message), id=request_id))

    # What the hub says.

    async def receive(self) -> str | bytes:
        """Return the next payload.

        Raises:
            LostError: The connection has ended, and trying again may help.
            ClosedError: The connection has ended, and trying again will not help.
        """
        try:
            # Fragment by fragment, because the library joins at most 4,096, and hubs of go-ws make
            # fragments of 1,024 bytes. Empty ones are left out, so that they need no memory.
            parts = [part async for part in self._socket.recv_streaming() if part]
        except ConnectionClosed as closed:
            raise self._explain(closed) from closed
        if parts and isinstance(parts[0], bytes):
            return b"".join(cast("list[bytes]", parts))
        return "".join(cast("list[str]", parts))

    def read(self, payload: str | bytes) -> Iterator[Message | None]:
        """Yield the messages of a payload that are for the application, and take the answers.

        Hubs of go-ws join several with newlines. Parts that are no message are counted. None stands
        for a part that is not for the application, so that the caller can give way there too.
        """
        for part in _split(payload):
            if not part or part.isspace():
                yield None
                continue
            try:
                message = decode_message(part)
            except MessageDecodeError as error:
                self.unreadable += 1
                logger.warning("ignored %d bytes of the hub that are %s", len(part), error)
                yield None
                continue
            yield from self._requests.take(message, part)
            if self._requests.is_unclear and self._deciding is None:
                loop = asyncio.get_running_loop()
                self._deciding = loop.call_later(self._plain_seconds, self._trust_pongs)

    def _trust_pongs(self) -> None:
        self._requests.trust_pongs()
        self._beating = asyncio.create_task(self._ask_for_life())

    # Life and death.

    def start_heartbeat(self) -> None:
        """Look after the connection from now on."""
        self._beat()

    def hold(self) -> None:
        """Note that the application holds the reading, so that silence means nothing."""
        self._is_held = True

    def release(self) -> None:
        """Note that reading goes on."""
        self._is_held = False
        self._note_heard()

    async def close(self, error: ClientError, timeout: float) -> None:
        """Close the connection, if it is open still, and end what waits for answers."""
        for timer in (self._timer, self._deciding):
            if timer is not None:
                timer.cancel()
        self._requests.abandon(error)
        # The library's own bound would count a standstill of the loop.
        self._socket.close_timeout = None
        closing = asyncio.create_task(self._socket.close())
        try:
            await wait_awake(closing, timeout)
        finally:
            if not closing.done():
                self._socket.transport.abort()
            await closing

    def _beat(self) -> None:
        now = self._clock.time()
        if self._is_held:
            # Nothing is read, so no ping of the hub is answered. This shows it that we are here.
            self._beating = asyncio.create_task(self._show_life())
            due = now + self._heartbeat_interval
        elif self._last_heard < self._pinged_at:
            due = self._pinged_at + self._pong_timeout
            late = now - self._due
            if now >= due and late < STANDSTILL_SECONDS:
                seconds = now - self._last_heard
                self._failure = LostError(1006, f"nothing came for {seconds:.0f} s")
                self._socket.transport.abort()
                return
            if now >= due:
                # The loop stood still, and the answer may wait to be read.
                due = now + min(late, self._pong_timeout)
        elif now >= self._last_heard + self._heartbeat_interval:
            self._pinged_at = now
            self._beating = asyncio.create_task(self._ask_for_life())
            due = now + min(self._pong_timeout, self._heartbeat_interval)
        else:
            due = self._last_heard + self._heartbeat_interval
        self._due = due
        self._timer = self._clock.call_at(due, self._beat)

    async def _ask_for_life(self) -> None:
        with contextlib.suppress(NotConnectedError):  # whoever reads finds out
            await self.ping()

    async def _show_life(self) -> None:
        try:
            await self._socket.pong()
        except ConnectionClosed:
            self._note_over()

    def _note_heard(self) -> None:
        self._last_heard = self._clock.time()

    def has_ended(self) -> bool:
        """Tell whether something could not be sent, because the connection has ended."""
        return self._is_over

    def _note_over(self) -> None:
        # Whoever reads may be held, and would find out only later.
        self._is_over = True
        self._on_over()

    def _explain(self, closed: ConnectionClosed) -> ClientError:
        if self._failure is not None:
            return self._failure
        close = closed.rcvd
        if close is None:
            # The client itself has closed if the hub broke the protocol or sent too much.
            return LostError(1006, "" if closed.sent is None else closed.sent.reason)
        if is_final_close(close.code):
            return ClosedError(close.code, close.reason)
        return LostError(close.code, close.reason, read_retry_reason(close.reason))


def _encode(**frame: object) -> str:
    return msgspec.json.encode(frame).decode()


def _split(payload: str | bytes) -> Iterator[bytes]:
    """Yield the parts of a payload that newlines divide, one at a time: there may be millions."""
    start = 0
    while start < len(payload):
        end = payload.find("\n", start) if isinstance(payload, str) else payload.find(b"\n", start)
        part = payload[start : len(payload) if end < 0 else end]
        yield part.encode() if isinstance(part, str) else part
        start += len(part) + 1
