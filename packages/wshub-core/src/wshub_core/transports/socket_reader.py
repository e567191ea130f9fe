"""The reading of a socket: the bytes wait for their turn, and the reading for the writing."""

import asyncio

from wshub_core.connections.connection import ServerConnection
from wshub_core.transports.sockets import ServerSockets
from wshub_core.values.closing import CloseCode

_MAX_UNREAD_BYTES = 65_536
"""Unparsed bytes above which reading from the socket pauses."""


class SocketReader(asyncio.Protocol):
    """A socket whose bytes are parsed in turns with those of all others; implements `Reader`.

    A subclass parses the bytes (`_parse_chunk`), and handles the end of the stream (`_end_reading`)
    and of the socket (`_end`).

    Args:
        sockets: The sockets of the server.
        transport: asyncio's transport of the socket.
    """

    # Slots save memory: a server holds one instance per connection.
    __slots__ = (
        "_connection",
        "_has_ended",
        "_has_eof",
        "_is_header_split",
        "_is_lost",
        "_is_paused",
        "_is_processing",
        "_is_reading_paused",
        "_is_writing_paused",
        "_sockets",
        "_transport",
        "_unread",
        "_unread_start",
    )

    def __init__(self, sockets: ServerSockets, transport: asyncio.Transport) -> None:
        self._sockets = sockets
        self._transport = transport
        # None for a refused client, which receives a close frame and is not served.
        self._connection: ServerConnection | None = None
        # Bytes that were read and not parsed yet, from `_unread_start` on.
        self._unread = b""
        self._unread_start = 0
        # True if the unread bytes are the beginning of a header, so that they have to wait.
        self._is_header_split = False
        # True while this object stands in the reading turns; it must not stand there twice.
        self._is_processing = False
        self._has_eof = False
        # The socket is closed. The end follows when the unread bytes are parsed.
        self._is_lost = False
        self._has_ended = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        # True if the transport does not read the socket, for whatever reason.
        self._is_paused = False

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
            if self._may_read and not self._is_processing:
                self._is_processing = True
                self._sockets.turns.process(self)
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

    @property
    def is_reading(self) -> bool:
        """True while the socket is read."""
        return self._transport.is_reading()

    # Called by the server.

    def shut_down(self) -> None:
        """Close with 1001; abort the socket of a refused client."""
        if self._connection is None:
            self.abort()
        else:
            self._sockets.hub.close_connection(
                self._connection, CloseCode.GOING_AWAY, "server shutdown"
            )

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
                self._finish()
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
            self._finish()
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

    def _finish(self) -> None:
        self._has_ended = True
        self._end()

    @property
    def _is_closed_by_hub(self) -> bool:
        return self._connection is not None and self._connection.ending is not None

    # What a subclass does.

    def _parse_chunk(self) -> None:
        """Parse some of the unread bytes, and move `_unread_start` behind them.

        If the rest is the beginning of a header, set `_is_header_split`.
        """
        raise NotImplementedError

    def _end_reading(self) -> None:
        """Handle the end of the stream, behind the last byte."""
        raise NotImplementedError

    def _end(self) -> None:
        """Handle the end of the socket."""
        raise NotImplementedError
