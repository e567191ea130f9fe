"""The native transport: one WebSocket on an asyncio socket.

Whole text frames are parsed by `frames`, and all other incoming bytes by the Sans-I/O layer of
`websockets` (RFC 6455). Outgoing messages are frames that were encoded once for all connections. A
connection has no task and no timer of its own.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import cast

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from wshub_core.connections.connection import ServerConnection
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.transports.frames import frame_end, pong_end, read_text
from wshub_core.transports.sockets import ServerSockets
from wshub_core.transports.writing import write, write_prepared
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import CloseCode, DisconnectCause

_PING = b"\x89\x00"
"""A ping without a payload (RFC 6455 section 5.5.2)."""

_MAX_UNREAD_BYTES = 65_536
"""Unparsed bytes above which reading from the socket pauses."""


class NativeTransport(asyncio.Protocol):
    """One WebSocket whose opening handshake has succeeded; implements `Transport`.

    The class is one unit, although it has many methods: reading, writing and the end share the
    state of the `websockets` protocol object.

    Args:
        sockets: The sockets of the server.
        transport: asyncio's transport of the socket.
        plain_socket: The socket itself, to which messages are written while the transport holds no
            bytes; None for TLS.
    """

    chunk_bytes = 1_024
    """Bytes that are parsed between two looks at the clock: at most 170 frames, or 3 ms of work."""

    # Slots save memory: a server holds one instance per connection.
    __slots__ = (
        "_connection",
        "_fragments",
        "_fragments_are_text",
        "_frame_left",
        "_has_ended",
        "_has_eof",
        "_is_header_split",
        "_is_lost",
        "_is_paused",
        "_is_processing",
        "_is_reading_paused",
        "_is_writing_paused",
        "_made_protocol",
        "_socket",
        "_sockets",
        "_transport",
        "_unread",
        "_unread_start",
    )

    def __init__(
        self,
        sockets: ServerSockets,
        transport: asyncio.Transport,
        plain_socket: socket.socket | None,
    ) -> None:
        self._sockets = sockets
        # Exists from its first use on. Text messages and pongs do not need it, so most connections
        # take less memory.
        self._made_protocol: ServerProtocol | None = None
        self._transport = transport
        self._socket = plain_socket
        # None for a refused client, which receives a close frame and is not served.
        self._connection: ServerConnection | None = None
        # Bytes that were read and not parsed yet, from `_unread_start` on.
        self._unread = b""
        self._unread_start = 0
        # Bytes of the current frame that `websockets` has not had yet; 0 between frames.
        self._frame_left = 0
        # True if the unread bytes are the beginning of a header, so that they have to wait.
        self._is_header_split = False
        # True while this object stands in the reading turns; it must not stand there twice.
        self._is_processing = False
        self._has_eof = False
        # The socket is closed. The end follows when the unread bytes are parsed.
        self._is_lost = False
        self._has_ended = False
        # The payload of an unfinished fragmented message; None outside of one.
        self._fragments: bytearray | None = None
        self._fragments_are_text = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        # True if the transport does not read the socket, for whatever reason.
        self._is_paused = False

    def open(self, remote_address: str, identity: AuthResult, early_data: bytes) -> None:
        """Connect to the hub.

        Args:
            remote_address: Address of the peer.
            identity: Result of the authenticator.
            early_data: Bytes that the client sent behind the request.
        """
        # With these limits, asyncio calls `pause_writing` as soon as the kernel takes only a part
        # of a write. Further messages then wait in the outbox, where they are counted and bounded.
        # The high limit is not 0, because a TLS transport of asyncio would then always be paused.
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._unread = early_data
        self._connection = self._sockets.hub.connect(self, remote_address, identity)
        self._process_unread()

    def refuse(self, code: int, reason: str, early_data: bytes) -> None:
        """Close without a connection to the hub.

        Args:
            code: Close code.
            reason: Close reason.
            early_data: Bytes that the client sent behind its request. They are parsed, because
                the read may have ended in the middle of a frame.
        """
        self._unread = early_data
        self.close(code, reason)
        self._process_unread()

    # Called by asyncio.

    def data_received(self, data: bytes) -> None:
        """Parse bytes from the socket, now or in a later turn."""
        if self._connection is not None:
            # Any byte proves that the peer is alive, also one that waits to be parsed.
            self._connection.note_heard(self._sockets.hub.clock.time())
        if self._unread:
            self._unread = self._unread[self._unread_start :] + data
            self._unread_start = 0
            self._is_header_split = False
        else:
            self._unread = data
        delivery = self._sockets.delivery
        delivery.hold()
        try:
            self._process_unread()
        finally:
            delivery.release()
        if len(self._unread) - self._unread_start > _MAX_UNREAD_BYTES:
            self._pause_socket()

    def eof_received(self) -> None:
        """Note that the peer sends nothing more; asyncio then closes the socket."""
        self._has_eof = True
        self._is_header_split = False
        self._process_end()
        # asyncio closes the socket only after it has sent all bytes. A peer that does not read
        # would delay the end, so the closing time limit starts now.
        self._sockets.closing_timeouts.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed."""
        self._is_lost = True
        self._is_header_split = False
        if self._is_closed_by_hub:
            self._unread = b""
            self._unread_start = 0
        # Frames that arrived before the end are served first.
        self._process_end()

    def pause_writing(self) -> None:
        """Note that the kernel takes no more bytes, and stop reading meanwhile.

        A peer that sends without reading would otherwise fill the memory with replies and pongs.
        """
        self._is_writing_paused = True
        self._pause_socket()
        if self._connection is not None:
            self._sockets.hub.lifecycle.stalled_writes.pause_writing(self._connection)

    def resume_writing(self) -> None:
        """Note that the kernel has taken all bytes."""
        self._is_writing_paused = False
        self._read_if_allowed()
        if self._connection is not None:
            self._sockets.hub.lifecycle.stalled_writes.resume_writing(self._connection)

    # Called by connections; documented on Transport.

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        """Write messages with one call; see `Transport.send`."""
        # The protocol's state needs no check: after a close frame, in either direction, the
        # connection has left the hub and its outbox is closed.
        data = messages[0].frame if len(messages) == 1 else self._sockets.join_frames(messages)
        if self._socket is not None and self._transport.get_write_buffer_size() == 0:
            # Much cheaper than the transport, which would do the same.
            try:
                sent = self._socket.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:  # the peer has reset the connection, or the socket is closed
                self._transport.abort()
                return 0
            if sent == len(data):
                return 0
            data = data[sent:]
        write(self._transport, data)
        return self._transport.get_write_buffer_size()

    def unsent_bytes(self) -> int:
        """Return the bytes in the socket's buffer; see `Transport.unsent_bytes`."""
        return self._transport.get_write_buffer_size()

    def ping(self) -> None:
        """Send a ping; see `Transport.ping`."""
        if self._is_open:
            write(self._transport, _PING)

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; see `Transport.close`."""
        # A close frame may be sent once only (RFC 6455 section 5.5.1).
        if self._is_open:
            self._protocol.send_close(code, reason)
            self._write_protocol()

    def abort(self) -> None:
        """Close the socket at once; see `Transport.abort`."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Stop reading; see `Transport.pause_reading`."""
        self._is_reading_paused = True
        self._pause_socket()

    def resume_reading(self) -> None:
        """Read again; see `Transport.resume_reading`."""
        self._is_reading_paused = False
        self._read_if_allowed()

    # Called by the server.

    def shut_down(self) -> None:
        """Close with 1001; abort the socket of a refused client."""
        if self._connection is None:
            self.abort()
        else:
            self._sockets.hub.close_connection(
                self._connection, CloseCode.GOING_AWAY, "server shutdown"
            )

    @property
    def is_reading(self) -> bool:
        """True while the socket is read."""
        return self._transport.is_reading()

    # Reading.

    def process_chunk(self) -> bool:
        """Parse some of the unread bytes; see `Reader.process_chunk`."""
        if self._has_ended:
            return False
        try:
            self._parse_chunk()
        except BaseException:
            # An unexpected exception ends this connection. All others go on.
            self._is_processing = False
            self._transport.abort()
            if self._is_lost:
                self._end()
            raise
        if self._unread_start == len(self._unread):
            self._unread = b""
            self._unread_start = 0
        elif self._has_unread and self._may_read:
            return True
        self._is_processing = False
        # Here, either all bytes are parsed or a pause has begun. The end of the stream lifts every
        # pause, so an end that was noted while bytes waited is handled behind the last of them.
        if self._is_lost:
            self._end()
        elif self._has_eof:
            self._end_reading()
        elif self._is_paused:
            self._read_if_allowed()
        return False

    def _pause_socket(self) -> None:
        self._is_paused = True
        self._transport.pause_reading()

    def _process_unread(self) -> None:
        if not self._is_processing and self._has_unread and self._may_read:
            self._is_processing = True
            self._sockets.turns.process(self)

    def _process_end(self) -> None:
        """Process the unread bytes and then the end, now or in a later turn.

        Thousands of clients may leave in one round of the event loop.
        """
        if not self._is_processing:
            self._is_processing = True
            self._sockets.turns.process(self)

    def _read_if_allowed(self) -> None:
        if not self._may_read or self._is_lost:
            return
        if not self._has_unread:
            self._is_paused = False
            self._transport.resume_reading()
        elif not self._is_processing:
            self._is_processing = True
            self._sockets.turns.add(self)

    @property
    def _has_unread(self) -> bool:
        return self._unread_start < len(self._unread) and not self._is_header_split

    @property
    def _may_read(self) -> bool:
        # After the end of the stream the pauses do not apply: the unread bytes are bounded, and
        # there is no sender to slow down.
        return not (self._is_reading_paused or self._is_writing_paused) or self._is_over

    @property
    def _is_over(self) -> bool:
        """True if no further bytes come."""
        return self._has_eof or self._is_lost

    # Frames.

    @property
    def _protocol(self) -> ServerProtocol:
        if self._made_protocol is None:
            self._made_protocol = self._sockets.make_protocol(OPEN)
        return self._made_protocol

    @property
    def _is_open(self) -> bool:
        """True until a close frame is sent or received, or the connection fails."""
        return self._made_protocol is None or self._made_protocol.state is OPEN

    def _parse_chunk(self) -> None:
        # An index instead of a cut: cutting 1 KiB off a large buffer would copy it every time.
        stop = min(self._unread_start + self.chunk_bytes, len(self._unread))
        max_bytes = self._sockets.max_message_bytes
        while self._unread_start < stop:
            size = stop - self._unread_start
            if self._is_open:
                if self._frame_left == 0:
                    if self._fragments is None:
                        text = read_text(self._unread, self._unread_start, max_bytes)
                        if text is not None:
                            payload, self._unread_start = text
                            self._receive_text(payload)
                            continue
                    if (end := pong_end(self._unread, self._unread_start)) is not None:
                        self._unread_start = end
                        continue
                    end = frame_end(self._unread, self._unread_start)
                    if end is not None:
                        self._frame_left = end - self._unread_start
                    elif self._is_over:
                        self._frame_left = size
                    else:
                        self._is_header_split = True
                        return
                size = min(size, self._frame_left)
                self._frame_left -= size
            start = self._unread_start
            self._unread_start += size
            self._parse(self._unread[start : self._unread_start])

    def _receive_text(self, payload: bytes) -> None:
        """Serve a text message that `websockets` has not seen."""
        if not self._receive_message(payload, is_text=True):
            self._write_protocol()

    def _parse(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        # The protocol answers pings and close frames by itself. Their frames are events, too.
        for event in self._protocol.events_received():
            if not self._receive_frame(cast("Frame", event)):
                break
        self._write_protocol()

    def _receive_frame(self, frame: Frame) -> bool:
        """Assemble messages from frames (RFC 6455 section 5.4) and serve them.

        Returns:
            False if the frames behind this one must be ignored.
        """
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                return self._receive_message(frame.data, is_text)
            self._fragments = bytearray(frame.data)
            self._fragments_are_text = is_text
        elif frame.opcode is Opcode.CONT:
            assert self._fragments is not None, "websockets refuses a stray continuation frame"
            self._fragments += frame.data
            if frame.fin:
                message, self._fragments = self._fragments, None
                return self._receive_message(message, self._fragments_are_text)
        return True

    def _receive_message(self, payload: bytes | bytearray | memoryview, is_text: bool) -> bool:
        assert not isinstance(payload, memoryview), "received payloads are never views"
        if is_text:
            # The Sans-I/O layer of websockets 17 leaves the check of UTF-8 (RFC 6455 section 8.1)
            # to its caller.
            try:
                payload.decode()
            except UnicodeDecodeError:
                return self._fail(CloseCode.INVALID_DATA, "invalid UTF-8 in a text message")
        if self._connection is not None:
            self._connection.receive(payload)
        return True

    def _fail(self, code: CloseCode, reason: str) -> bool:
        """Close because of a message; return False, because the frames behind it are ignored."""
        # During the closing handshake a violation changes nothing any more.
        if self._is_open:
            self._protocol.fail(code, reason)
        return False

    # Writing.

    def _write_protocol(self) -> None:
        """Write the pongs and close frames that the protocol has prepared."""
        write_prepared(self._transport, self._protocol)
        if self._protocol.close_expected():
            self._sockets.closing_timeouts.add(self)
            if self._connection is not None:
                # One side has sent a close frame, so no message may follow (RFC 6455 section
                # 5.5.1).
                self._sockets.hub.lifecycle.leave(self._connection)

    # The end.

    @property
    def _is_closed_by_hub(self) -> bool:
        return self._connection is not None and self._connection.ending is not None

    def _end_reading(self) -> None:
        if self._connection is not None:
            self._sockets.hub.lifecycle.leave(self._connection)
        # Without the protocol, nothing is left to do: asyncio closes the socket.
        if self._made_protocol is not None:
            self._protocol.receive_eof()
            self._write_protocol()

    def _end(self) -> None:
        self._has_ended = True
        self._sockets.remove(self)
        if self._connection is not None:
            self._sockets.hub.lifecycle.note_disconnected(self._connection, *self._describe_end())

    def _describe_end(self) -> tuple[DisconnectCause, int, str]:
        if self._made_protocol is None:
            return DisconnectCause.LOST, 1006, ""
        received, sent = self._protocol.close_rcvd, self._protocol.close_sent
        if received is not None and self._protocol.close_rcvd_then_sent:
            return DisconnectCause.CLIENT_CLOSED, received.code, received.reason
        if sent is not None:
            # A close by the hub has its own cause, which `Lifecycle` prefers. The protocol sends
            # a close frame by itself only after a violation by the peer.
            return DisconnectCause.PROTOCOL_ERROR, sent.code, sent.reason
        return DisconnectCause.LOST, 1006, ""
