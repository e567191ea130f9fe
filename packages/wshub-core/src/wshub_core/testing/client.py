"""A client without a socket, for tests with a real hub."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextvars import Context, copy_context
from itertools import count
from typing import Any

import msgspec

from wshub_core.connections.connection import ServerConnection
from wshub_core.hub import Hub, running_hub
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import DisconnectCause
from wshub_core.values.errors import WSHubError
from wshub_core.values.http import Request, Response
from wshub_core.values.messages import Message, MessageType, decode_message, encode_message

_RECEIVE_SECONDS = 5.0
"""Seconds for which a test waits for a message before it fails."""


class HandshakeRefusedError(WSHubError):
    """The hub refused the opening handshake of a client.

    Attributes:
        response: The answer of the hub.
    """

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(f"the hub answered {response.status}: {response.body.decode().strip()}")


class MemoryTransport:
    """The transport of a `MemoryClient`.

    Attributes:
        is_stalled: Whether the client takes no bytes.
        is_silent: Whether the client answers no pings.
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
        self._is_reading_paused = False
        # Items in order: frames of the client, then its end; messages of the hub, then its close.
        self._unread: deque[bytes | tuple[DisconnectCause, int, str]] = deque()
        self._unsent: deque[PreparedMessage | tuple[int, str]] = deque()

    def open(self, remote_address: str, identity: AuthResult, context: Context) -> None:
        """Add the connection to the hub."""
        connection = self._hub.connect(self, remote_address, identity, context)
        # `on_connect` may have ended the connection already.
        if self._client.close_code is None:
            self._connection = connection

    def receive(self, item: bytes | tuple[DisconnectCause, int, str]) -> None:
        """Pass a frame of the client, or its end, to the hub; keep it while reading is paused."""
        if self._is_reading_paused:
            self._unread.append(item)
        elif isinstance(item, tuple):
            self.end(*item)
        elif self._connection is not None:
            self._connection.note_heard(self._clock.time())
            self._connection.receive(item)

    def take_all(self) -> None:
        """Pass all messages that a stalled client has held back to the client."""
        if self._unsent:
            while self._unsent:
                self._take(self._unsent.popleft())
            if self._connection is not None:
                self._hub.lifecycle.stalled_writes.resume_writing(self._connection)

    def take_one(self) -> None:
        """Pass one message that a stalled client has held back to the client."""
        if self._unsent:
            self._take(self._unsent.popleft())
            if not self._unsent and self._connection is not None:
                self._hub.lifecycle.stalled_writes.resume_writing(self._connection)

    def end(self, cause: DisconnectCause, code: int, reason: str) -> None:
        """End the connection; either side can cause this."""
        connection, self._connection = self._connection, None
        self._unsent.clear()
        if self._client.close_code is None:
            self._client.note_end(code, reason)
        if connection is not None:
            self._hub.lifecycle.note_disconnected(connection, cause, code, reason)

    # The interface for the hub; documented on Transport.

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        """Pass messages to the client; hold them back while the client is stalled."""
        if self.is_stalled:
            self._unsent.extend(messages)
            if self._connection is not None:
                self._hub.lifecycle.stalled_writes.pause_writing(self._connection)
        else:
            for message in messages:
                self._take(message)
        return self.unsent_bytes()

    def unsent_bytes(self) -> int:
        """Return the number of bytes that are held back."""
        return sum(each.size for each in self._unsent if isinstance(each, PreparedMessage))

    def ping(self) -> None:
        """Record a sign of life of the client, unless the client is silent."""
        self._client.pings += 1
        if not self.is_silent and self._connection is not None:
            self._connection.note_heard(self._clock.time())

    def close(self, code: int, reason: str) -> None:
        """Close the connection; a stalled client receives the close when it resumes in time."""
        if self.is_stalled:
            self._unsent.append((code, reason))
            self._clock.call_at(self._clock.time() + self._close_timeout, self.abort)
        else:
            self._take((code, reason))

    def abort(self) -> None:
        """End the connection at once."""
        self.end(DisconnectCause.LOST, 1006, "")

    def pause_reading(self) -> None:
        """Keep the frames of the client until `resume_reading`."""
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        """Pass the frames that were kept to the hub."""
        self._is_reading_paused = False
        self._loop.call_soon(self._read_kept)

    def _read_kept(self) -> None:
        while self._unread and not self._is_reading_paused:
            self.receive(self._unread.popleft())

    def _take(self, item: PreparedMessage | tuple[int, str]) -> None:
        if isinstance(item, PreparedMessage):
            for payload in item.payloads:
                self._client.note_payload(payload)
        else:
            # The client answers the close frame at once, which ends the connection.
            self._client.note_end(*item)
            self._loop.call_soon(self.end, DisconnectCause.SERVER_CLOSED, *item)


_SYNC_PREFIX = "wshub-sync-"


class _Reply(msgspec.Struct):
    """The ``id`` of an answer; other messages may use that field for any value."""

    id: Any = None


class MemoryClient:
    """A client without a socket; see `connect`.

    Attributes:
        messages: Messages that have arrived and were not received yet, oldest first.
        pings: Number of WebSocket pings that have arrived.
        close_code: The close code; None while the connection is open, 1006 without a close frame.
        close_reason: The close reason.
    """

    def __init__(
        self, hub: Hub, remote_address: str, identity: AuthResult, context: Context
    ) -> None:
        self.messages: deque[Message] = deque()
        self.pings = 0
        self.close_code: int | None = None
        self.close_reason = ""
        self._changed = asyncio.Event()
        # The pings of `sync` carry these ids, so that their pongs are not taken for others.
        self._sync_ids = count(1)
        self._unanswered_syncs: set[str] = set()
        self._transport = MemoryTransport(hub, self)
        self._transport.open(remote_address, identity, context)

    def send(self, message: Message | bytes) -> None:
        """Send a message, or the raw payload of a frame, to the hub."""
        if isinstance(message, Message):
            self._transport.receive(encode_message(message))
        else:
            self._transport.receive(message)

    def subscribe(self, channel: str) -> None:
        """Send a subscribe frame for a channel."""
        self.send(Message(type=MessageType.SUBSCRIBE, channel=channel))

    def unsubscribe(self, channel: str) -> None:
        """Send an unsubscribe frame for a channel."""
        self.send(Message(type=MessageType.UNSUBSCRIBE, channel=channel))

    async def receive(self) -> Message:
        """Wait for the next message and return it.

        Raises:
            TimeoutError: No message arrived within five seconds.
            ConnectionResetError: The connection has ended, and all messages were received.
        """
        async with asyncio.timeout(_RECEIVE_SECONDS):
            while not self.messages:
                if self.close_code is not None:
                    raise ConnectionResetError(f"closed with {self.close_code}")
                await self._wait_for_change()
        return self.messages.popleft()

    async def sync(self) -> None:
        """Wait until the hub has served all frames of this client and delivered all messages to it.

        These are the frames and messages that were sent before this call. The method sends a ping
        and waits for its pong, which is not among `messages`.

        Raises:
            TimeoutError: No pong arrived within five seconds; the client may be stalled.
        """
        sync_id = f"{_SYNC_PREFIX}{next(self._sync_ids)}"
        self._unanswered_syncs.add(sync_id)
        self.send(b'{"type":"ping","id":"%b"}' % sync_id.encode())
        async with asyncio.timeout(_RECEIVE_SECONDS):
            while self.close_code is None and sync_id in self._unanswered_syncs:
                await self._wait_for_change()

    async def wait_closed(self) -> int:
        """Wait until the connection has ended; return the close code.

        Raises:
            TimeoutError: The connection did not end within five seconds.
        """
        async with asyncio.timeout(_RECEIVE_SECONDS):
            while self.close_code is None:
                await self._wait_for_change()
        return self.close_code

    def stall(self) -> None:
        """Take no more bytes, as a client that has stopped reading."""
        self._transport.is_stalled = True

    def resume(self) -> None:
        """Take all messages that were held back, and further ones again."""
        self._transport.is_stalled = False
        self._transport.take_all()

    def take_one(self) -> None:
        """Take one message while the client is stalled, as a slow client does."""
        self._transport.take_one()

    def fall_silent(self) -> None:
        """Answer no more pings, as a client whose network has failed."""
        self._transport.is_silent = True

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection with a close frame."""
        self._transport.receive((DisconnectCause.CLIENT_CLOSED, code, reason))

    def vanish(self) -> None:
        """End the connection without a close frame."""
        self._transport.receive((DisconnectCause.LOST, 1006, ""))

    def note_payload(self, payload: bytes) -> None:
        """Receive an encoded message from the transport."""
        reply_id = msgspec.json.decode(payload, type=_Reply).id
        if isinstance(reply_id, str) and reply_id in self._unanswered_syncs:
            self._unanswered_syncs.discard(reply_id)
        else:
            self.note_message(decode_message(payload))
        self._changed.set()

    def note_message(self, message: Message) -> None:
        """Receive a message that the test may look at."""
        self.messages.append(message)

    def note_end(self, code: int, reason: str) -> None:
        """Receive the end of the connection from the transport."""
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
    """Connect a client to a hub, with the same admission checks as over the network.

    Args:
        hub: A hub that has been entered.
        path: Path of the request.
        query: Query of the request, such as ``token=…``.
        headers: Headers of the request, such as ``Authorization`` or ``Origin``.
        remote_address: Address of the client, as the hub sees it.

    Raises:
        HandshakeRefusedError: The hub refused the client.
    """
    lower = {name.lower(): (value,) for name, value in (headers or {}).items()}
    request = Request("GET", path, query, {"host": ("testserver",)} | lower, remote_address)
    # Admission and all callbacks of one connection share a context, as over the network.
    context = copy_context()
    running = running_hub(hub)
    identity = await running.spawn(running.admission.admit(request, context), context)
    # Other clients may have connected between the end of the task and now.
    refusal = identity if isinstance(identity, Response) else running.admission.check_room(request)
    if refusal is not None:
        raise HandshakeRefusedError(refusal)
    assert isinstance(identity, AuthResult), "a refusal was handled above"
    return MemoryClient(hub, remote_address, identity, context)
