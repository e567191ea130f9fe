"""One connection of a client: what it asks, what it hears, and when it is dead."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from wshub_client.errors import ClientError, ClosedError, LostError, NotConnectedError
from wshub_client.requests import Requests, Settle
from wshub_client.verdicts import is_final_close, read_retry_reason
from wshub_core import (
    Clock,
    Message,
    MessageDecodeError,
    MessageType,
    Timer,
    decode_message,
    encode_message,
)

_PING = encode_message(Message(type=MessageType.PING)).decode()


class Link:
    """An open WebSocket to a hub.

    Args:
        socket: The WebSocket.
        clock: What the heartbeat goes by.
        heartbeat_interval: After how many seconds of silence the hub is pinged.
        pong_timeout: How many more seconds it has.
        on_over: Called when something could not be sent.
    """

    def __init__(
        self,
        socket: ClientConnection,
        clock: Clock,
        heartbeat_interval: float,
        pong_timeout: float,
        on_over: Callable[[], None],
    ) -> None:
        self._is_over = False
        self._on_over = on_over
        self._is_held = False
        self._socket = socket
        self._clock = clock
        self._heartbeat_interval = heartbeat_interval
        self._pong_timeout = pong_timeout
        self._requests = Requests()
        self._last_heard = clock.time()
        self._pinged_at = self._last_heard
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
        self._requests.ping(on_pong)
        await self.send(_PING)

    async def subscribe(self, channel: str, settle: Settle) -> None:
        """Ask for a channel; a ping has to follow."""
        request_id = self._requests.ask(channel, settle, is_subscription=True)
        # The oldest hubs read the channel from `data`.
        await self.send(_encode(type="subscribe", channel=channel, data=channel, id=request_id))

    async def unsubscribe(self, channel: str) -> None:
        """Ask for no more of a channel."""
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
            payload = await self._socket.recv()
        except ConnectionClosed as closed:
            raise self._explain(closed) from closed
        self._last_heard = self._clock.time()
        return payload

    def read(self, payload: str | bytes) -> Iterator[Message]:
        """Yield the messages of a payload that are for the application, and take the answers.

        Hubs of go-ws join several with newlines; what is no message is skipped.
        """
        raw = payload.encode() if isinstance(payload, str) else payload
        for part in raw.split(b"\n"):
            try:
                message = decode_message(part)
            except MessageDecodeError:
                continue
            if not self._requests.take(message, part):
                yield message

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
        self._last_heard = self._clock.time()

    async def close(self, error: ClientError, timeout: float) -> None:
        """Close the connection, if it is open still, and end what waits for answers."""
        if self._timer is not None:
            self._timer.cancel()
        self._requests.abandon(error)
        try:
            # The library waits for a peer that reads, however long that takes.
            async with asyncio.timeout(timeout):
                await self._socket.close()
        except BaseException as failure:
            self._socket.transport.abort()
            await self._socket.wait_closed()
            if not isinstance(failure, TimeoutError):
                raise

    def _beat(self) -> None:
        now = self._clock.time()
        if self._is_held:
            # Nothing is read, so no ping of the hub is answered. This shows it that we are here.
            self._beating = asyncio.create_task(self._show_life())
            due = now + self._heartbeat_interval
        elif self._last_heard < self._pinged_at:
            due = self._pinged_at + self._pong_timeout
            if now >= due:
                seconds = now - self._last_heard
                self._failure = LostError(1006, f"nothing came for {seconds:.0f} s")
                self._socket.transport.abort()
                return
        elif now >= self._last_heard + self._heartbeat_interval:
            self._pinged_at = now
            self._beating = asyncio.create_task(self._ask_for_life())
            due = now + min(self._pong_timeout, self._heartbeat_interval)
        else:
            due = self._last_heard + self._heartbeat_interval
        self._timer = self._clock.call_at(due, self._beat)

    async def _ask_for_life(self) -> None:
        with contextlib.suppress(NotConnectedError):  # whoever reads finds out
            await self.ping()

    async def _show_life(self) -> None:
        try:
            await self._socket.pong()
        except ConnectionClosed:
            self._note_over()

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
