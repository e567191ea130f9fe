"""The reading of a plain HTTP request: its bytes wait for their turn, and for the application."""

import asyncio

import h11

from wshub_core.transports.http_exchange import HTTPExchange
from wshub_core.transports.request_head import find_head_end, is_chunked
from wshub_core.transports.request_line import MAX_LINE_BYTES
from wshub_core.transports.sockets import ServerSockets

_MAX_UNREAD_BYTES = 65_536
"""Bytes that wait to be parsed, or for the application, above which reading from the socket pauses.
"""

_PART_BYTES = 1_024
"""Bytes of a chunked body that are parsed between two looks at the clock: at most 170 chunks, or
3 ms of work."""

_ENDED = (h11.ERROR, h11.MUST_CLOSE, h11.CLOSED)
"""The states of a peer whose further bytes mean nothing; they are dropped."""


class HTTPReader(asyncio.Protocol):
    """A socket whose request is parsed in turns with all other sockets; implements `Reader`.

    A subclass begins the response (`_begin`), and refuses a malformed request (`_refuse`).

    Args:
        sockets: The sockets of the server.
        transport: asyncio's transport of the socket.
    """

    def __init__(self, sockets: ServerSockets, transport: asyncio.Transport) -> None:
        self._sockets = sockets
        self._transport = transport
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_LINE_BYTES)
        # The request that is being answered; None before and behind it.
        self._exchange: HTTPExchange | None = None
        # Bytes that were read and not passed to `h11`.
        self._unread = bytearray()
        # True while this object stands in the reading turns; it must not stand there twice.
        self._is_parsing = False
        self._is_chunked = False
        self._has_eof = False
        # The server closes, or the peer sends nothing more: this response is the last one.
        self._is_last = False
        # The response was sent, and the bytes that still arrive are dropped.
        self._is_over = False

    # Called by asyncio.

    def data_received(self, data: bytes) -> None:
        """Parse bytes from the socket, now or in a later turn."""
        if self._is_over or self._protocol.their_state in _ENDED:
            return
        self._unread += data
        if not self._is_parsing:
            self._is_parsing = True
            self._sockets.turns.process(self)
        if self._is_parsing and len(self._unread) > _MAX_UNREAD_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Note that the peer sends nothing more; a response that is under way goes on."""
        self._is_last = self._has_eof = True
        if self._exchange is None and self._is_parsing:
            self.process_chunk()  # the head
        if self._exchange is None:
            return False
        if not self._is_parsing:
            self._note_eof()
        # asyncio closes a TLS connection in any case, and warns if it shall not.
        return self._transport.get_extra_info("sslcontext") is None

    # Parsing.

    def process_chunk(self) -> bool:
        """Parse some of the unread bytes; see `Reader.process_chunk`."""
        self._is_parsing = False
        if self._is_over or self._transport.is_closing():
            return False
        try:
            self._is_parsing = self._parse()
        except h11.RemoteProtocolError as exc:
            self._refuse(exc)
        if self._protocol.their_state in _ENDED:
            self._unread.clear()
        if not self._is_parsing and self._exchange is not None:
            self._wait_for_application()
        return self._is_parsing

    def _parse(self) -> bool:
        """Parse the head, and a part of the body; return True if more can be parsed now."""
        if self._exchange is None:
            size = find_head_end(self._unread)
            if size is None:
                return False
            self._pass_on(size)
        # With the head, so that a response to the head alone finds a short body read, and the
        # socket can stay open.
        if self._may_parse_body and self._unread:
            self._pass_on(_PART_BYTES if self._is_chunked else len(self._unread))
        return self._may_parse_body and bool(self._unread)

    def _pass_on(self, size: int) -> None:
        """Pass unread bytes to `h11`, and handle the parts of the request in them."""
        self._protocol.receive_data(bytes(self._unread[:size]))
        del self._unread[:size]
        while self._handle_event():
            pass

    @property
    def _may_parse_body(self) -> bool:
        return (
            self._exchange is not None
            and self._protocol.their_state is h11.SEND_BODY
            and self._exchange.unread_bytes <= _MAX_UNREAD_BYTES
        )

    def _wait_for_application(self) -> None:
        """Pause reading if the application, or the end of the response, has to come first."""
        if self._has_eof:
            self._note_eof()
        elif self._unread or (
            self._protocol.their_state is h11.SEND_BODY and not self._may_parse_body
        ):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _note_eof(self) -> None:
        """Tell the application that the client sends nothing more, behind the last byte."""
        assert self._exchange is not None, "the head has been parsed"
        if self._protocol.their_state is not h11.SEND_BODY:
            # Streams end. Other responses do not depend on the client.
            self._exchange.note_disconnected()
        elif not self._unread:
            self._refuse(h11.RemoteProtocolError("the body is incomplete"))

    def _handle_event(self) -> bool:
        """Handle the next part of a request; return False if it has not arrived."""
        event = self._protocol.next_event()
        if isinstance(event, h11.Request):
            self._sockets.opening_timeouts.discard(self)
            self._is_chunked = is_chunked(event)
            self._begin(event)
        elif isinstance(event, h11.Data):
            self._sockets.opening_timeouts.discard(self)
            if self._exchange is not None:
                self._exchange.add_body(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            self._sockets.opening_timeouts.discard(self)
            if self._exchange is not None:
                self._exchange.end_body()
        else:
            return False
        return True

    def _read_on(self) -> None:
        """Parse the unread bytes, or read further ones."""
        if not self._unread:
            self._transport.resume_reading()
        elif not self._is_parsing:
            self._is_parsing = True
            self._sockets.turns.add(self)

    # What a subclass does.

    def abort(self) -> None:
        """Close the socket at once."""
        raise NotImplementedError

    def shut_down(self) -> None:
        """Close the socket, after the response that is under way."""
        raise NotImplementedError

    def _begin(self, request: h11.Request) -> None:
        """Begin the exchange for a request whose head has arrived."""
        raise NotImplementedError

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Respond to a request that cannot be parsed, unless a response is under way."""
        raise NotImplementedError
