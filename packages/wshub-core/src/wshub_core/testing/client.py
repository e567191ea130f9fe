"""A client without a socket, on a hub that is a real one."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextvars import Context, copy_context

from wshub_core.connections.connection import ServerConnection
from wshub_core.hub import Hub, running_hub
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import DisconnectCause
from wshub_core.values.errors import WSHubError
from wshub_core.values.http import Request, Response
from wshub_core.values.messages import Message, MessageType, decode_message, encode_message

_RECEIVE_SECONDS = 5.0
"""How long a test waits for a message before it fails."""


class HandshakeRefusedError(WSHubError):
    """The hub did not let a client in.

    Attributes:
        response: What it answered.
    """

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(f"the hub answered {response.status}: {response.body.decode().strip()}")


class MemoryTransport:
    """The far end of a connection, in memory; see `wshub_core.connections.transport.Transport`.

    Attributes:
        is_stalled: Whether it takes no bytes.
        is_silent: Whether it answers no pings.
    """

    def __init__(self, hub: Hub, client: "MemoryClient") -> None:
        self.is_stalled = False
        self.is_silent = False
        self._loop = asyncio.get_running_loop()
        self._clock = hub.clock
        self._close_timeout = hub.config.close_timeout
        self._hub = running_hub(hub)
        self._client = client
        self._connection: ServerConnection | None = None
        self._is_reading_held = False
        self._unread: deque[bytes | tuple[DisconnectCause, int, str]] = deque()
        self._unsent: deque[PreparedMessage | tuple[int, str]] = deque()

    def open(self, remote_address: str, identity: AuthResult, context: Context) -> None:
        """Have the hub take this connection in."""
        connection = self._hub.connect(self, remote_address, identity, context)
        # A callback may have ended it already.
        if self._client.close_code is None:
            self._connection = connection

    def receive(self, item: bytes | tuple[DisconnectCause, int, str]) -> None:
        """Pass on a frame of the client, or how it ends, when the hub reads."""
        if self._is_reading_held:
            self._unread.append(item)
        elif isinstance(item, tuple):
            self.end(*item)
        elif self._connection is not None:
            self._connection.note_heard(self._clock.time())
            self._connection.receive(item)

    def take_all(self) -> None:
        """Take what was held back while the client was stalled."""
        if self._unsent:
            while self._unsent:
                self._take(self._unsent.popleft())
            if self._connection is not None:
                self._hub.lifecycle.stalled_writes.resume_writing(self._connection)

    def take_one(self) -> None:
        """Take one message of what was held back."""
        if self._unsent:
            self._take(self._unsent.popleft())
            if not self._unsent and self._connection is not None:
                self._hub.lifecycle.stalled_writes.resume_writing(self._connection)

    def end(self, cause: DisconnectCause, code: int, reason: str) -> None:
        """End the connection, from either side."""
        connection, self._connection = self._connection, None
        self._unsent.clear()
        if self._client.close_code is None:
            self._client.note_end(code, reason)
        if connection is not None:
            self._hub.lifecycle.disconnect(connection, cause, code, reason)

    # What the hub does.

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        """Deliver messages, or hold them while the client is stalled."""
        if self.is_stalled:
            self._unsent.extend(messages)
            if self._connection is not None:
                self._hub.lifecycle.stalled_writes.pause_writing(self._connection)
        else:
            for message in messages:
                self._take(message)
        return self.unsent_bytes()

    def unsent_bytes(self) -> int:
        """Return the bytes of what is held."""
        return sum(each.size for each in self._unsent if isinstance(each, PreparedMessage))

    def ping(self) -> None:
        """Have the client say that it is there, unless it is silent."""
        self._client.pings += 1
        if not self.is_silent and self._connection is not None:
            self._connection.note_heard(self._clock.time())

    def close(self, code: int, reason: str) -> None:
        """Close; a stalled client hears it when it goes on, if that is in time."""
        if self.is_stalled:
            self._unsent.append((code, reason))
            self._clock.call_at(self._clock.time() + self._close_timeout, self.abort)
        else:
            self._take((code, reason))

    def abort(self) -> None:
        """End at once."""
        self.end(DisconnectCause.LOST, 1006, "")

    def pause_reading(self) -> None:
        """Hold what the client sends."""
        self._is_reading_held = True

    def resume_reading(self) -> None:
        """Pass on what was held."""
        self._is_reading_held = False
        self._loop.call_soon(self._read_held)

    def _read_held(self) -> None:
        while self._unread and not self._is_reading_held:
            self.receive(self._unread.popleft())

    def _take(self, item: PreparedMessage | tuple[int, str]) -> None:
        if isinstance(item, PreparedMessage):
            self._client.note_message(decode_message(item.payload))
        else:
            # The client answers a close frame at once, and then both are gone.
            self._client.note_end(*item)
            self._loop.call_soon(self.end, DisconnectCause.SERVER_CLOSED, *item)


class MemoryClient:
    """A client without a socket; `connect` makes one.

    Attributes:
        messages: What has arrived and was not received yet, oldest first.
        pings: How many WebSocket pings have arrived.
        close_code: The code with which the connection ended; None while it lives, 1006 if there
            was no close frame.
        close_reason: The text that came with it.
    """

    def __init__(
        self, hub: Hub, remote_address: str, identity: AuthResult, context: Context
    ) -> None:
        self.messages: deque[Message] = deque()
        self.pings = 0
        self.close_code: int | None = None
        self.close_reason = ""
        self._changed = asyncio.Event()
        # The pong that answers a `sync` is not the application's to see.
        self._pings_sent = self._pongs_received = 0
        self._pongs_to_drop: set[int] = set()
        self._transport = MemoryTransport(hub, self)
        self._transport.open(remote_address, identity, context)

    def send(self, message: Message | bytes) -> None:
        """Send a message, or the raw text of a frame, to the hub."""
        if isinstance(message, Message):
            self._pings_sent += message.type == MessageType.PING
            self._transport.receive(encode_message(message))
        else:
            self._transport.receive(message)

    def subscribe(self, channel: str) -> None:
        """Ask for the messages of a channel."""
        self.send(Message(type=MessageType.SUBSCRIBE, channel=channel))

    def unsubscribe(self, channel: str) -> None:
        """Ask for no more messages of a channel."""
        self.send(Message(type=MessageType.UNSUBSCRIBE, channel=channel))

    async def receive(self) -> Message:
        """Return the next message, once it is there.

        Raises:
            TimeoutError: None came within five seconds.
            ConnectionResetError: The connection has ended, and all messages were received.
        """
        async with asyncio.timeout(_RECEIVE_SECONDS):
            while not self.messages:
                if self.close_code is not None:
                    raise ConnectionResetError(f"closed with {self.close_code}")
                await self._wait_for_change()
        return self.messages.popleft()

    async def sync(self) -> None:
        """Wait until the hub has served all that was sent, and delivered all that was published.

        Raises:
            TimeoutError: That did not come about within five seconds; the client may be stalled.
        """
        self._pongs_to_drop.add(self._pings_sent + 1)
        self.send(Message(type=MessageType.PING))
        pong = self._pings_sent
        async with asyncio.timeout(_RECEIVE_SECONDS):
            while self.close_code is None and self._pongs_received < pong:
                await self._wait_for_change()

    async def wait_closed(self) -> int:
        """Wait until the connection has ended; return the close code.

        Raises:
            TimeoutError: It did not end within five seconds.
        """
        async with asyncio.timeout(_RECEIVE_SECONDS):
            while self.close_code is None:
                await self._wait_for_change()
        return self.close_code

    def stall(self) -> None:
        """Take no more bytes, as a client does that has stopped to read."""
        self._transport.is_stalled = True

    def resume(self) -> None:
        """Take all that was held back, and what comes."""
        self._transport.is_stalled = False
        self._transport.take_all()

    def take_one(self) -> None:
        """Take one of the messages that a stalled client holds back, as a slow one does."""
        self._transport.take_one()

    def fall_silent(self) -> None:
        """Answer no more pings, as a client does whose network is gone."""
        self._transport.is_silent = True

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection with a close frame."""
        self._transport.receive((DisconnectCause.CLIENT_CLOSED, code, reason))

    def vanish(self) -> None:
        """End the connection without a close frame."""
        self._transport.receive((DisconnectCause.LOST, 1006, ""))

    def note_message(self, message: Message) -> None:
        """Take a message from the transport."""
        self._pongs_received += message.type == MessageType.PONG
        if message.type == MessageType.PONG and self._pongs_received in self._pongs_to_drop:
            self._pongs_to_drop.discard(self._pongs_received)
        else:
            self.messages.append(message)
        self._changed.set()

    def note_end(self, code: int, reason: str) -> None:
        """Take the end from the transport."""
        self.close_code, self.close_reason = code, reason
        self._changed.set()

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


async def connect(
    hub: Hub,
    *,
    path: str = "/ws",
    query: str = "",
    headers: Mapping[str, str] | None = None,
    remote_address: str = "192.0.2.1:50000",
) -> MemoryClient:
    """Connect a client to a hub, through the same door as over the network.

    Args:
        hub: A hub that has been entered.
        path: The path of the request, for authenticators that look at it.
        query: Its query, such as ``token=…``.
        headers: Its headers, such as ``Authorization`` or ``Origin``.
        remote_address: Where the client seems to come from.

    Raises:
        HandshakeRefusedError: The hub did not let it in.
    """
    lower = {name.lower(): (value,) for name, value in (headers or {}).items()}
    request = Request("GET", path, query, {"host": ("testserver",)} | lower, remote_address)
    context = copy_context()
    running = running_hub(hub)
    identity = await running.spawn(running.admission.admit(request, context), context)
    refusal = identity if isinstance(identity, Response) else running.admission.check_room()
    if refusal is not None:
        raise HandshakeRefusedError(refusal)
    assert isinstance(identity, AuthResult), "it is no refusal"
    return MemoryClient(hub, remote_address, identity, context)
