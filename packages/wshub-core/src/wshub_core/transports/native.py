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

from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.transports.frames import frame_end, pong_end, read_text
from wshub_core.transports.socket_reader import SocketReader
from wshub_core.transports.sockets import ServerSockets
from wshub_core.transports.writing import write, write_prepared
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import CloseCode, DisconnectCause

_PING = b"\x89\x00"
"""A ping without a payload (RFC 6455 section 5.5.2)."""


class NativeTransport(SocketReader):
    """One WebSocket whose opening handshake has succeeded; implements `Transport`.

    Args:
        sockets: The sockets of the server.
        transport: asyncio's transport of the socket.
        plain_socket: The socket itself, to which messages are written while the transport holds no
            bytes; None for TLS.
    """

    chunk_bytes = 1_024
    """Bytes that are parsed between two looks at the clock: at most 170 frames, or 3 ms of work."""

    # Slots save memory: a server holds one instance per connection.
    __slots__ = ("_fragments", "_fragments_are_text", "_frame_left", "_made_protocol", "_socket")

    def __init__(
        self,
        sockets: ServerSockets,
        transport: asyncio.Transport,
        plain_socket: socket.socket | None,
    ) -> None:
        super().__init__(sockets, transport)
        # Exists from its first use on. Text messages and pongs do not need it, so most connections
        # take less memory.
        self._made_protocol: ServerProtocol | None = None
        self._socket = plain_socket
        # Bytes of the current frame that `websockets` has not had yet; 0 between frames.
        self._frame_left = 0
        # The payload of an unfinished fragmented message; None outside of one.
        self._fragments: bytearray | None = None
        self._fragments_are_text = False

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
        """Parse some of the unread bytes; see `SocketReader`."""
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
                            # `websockets` has not seen this message.
                            if not self._receive_message(payload, is_text=True):
                                self._write_protocol()
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

    def _end_reading(self) -> None:
        """Leave the hub; see `SocketReader`."""
        if self._connection is not None:
            self._sockets.hub.lifecycle.leave(self._connection)
        # Without the protocol, nothing is left to do: asyncio closes the socket.
        if self._made_protocol is not None:
            self._protocol.receive_eof()
            self._write_protocol()

    def _end(self) -> None:
        """Tell the hub; see `SocketReader`."""
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
