"""The opening handshake: one HTTP request on a socket, and its response.

`handshake` reads ordinary requests, and the Sans-I/O layer of `websockets` reads all others. After
a successful handshake, a `NativeTransport` serves the socket. Any other response ends the
connection.
"""

import asyncio
import re
import socket
from collections.abc import Coroutine
from contextvars import Context, copy_context
from http import HTTPStatus
from typing import cast

from websockets import http11
from websockets.exceptions import InvalidMessage
from websockets.protocol import CONNECTING
from websockets.server import ServerProtocol

from wshub_core.connections.admission import ANONYMOUS
from wshub_core.logs import get_logger
from wshub_core.transports.compressed import CompressedTransport
from wshub_core.transports.handshake import Handshake, check_request, read_handshake
from wshub_core.transports.http_connection import HTTPConnection
from wshub_core.transports.http_messages import make_request, read_request, write_response
from wshub_core.transports.native import NativeTransport
from wshub_core.transports.request_line import MAX_LINE_BYTES, is_for_other_path
from wshub_core.transports.sockets import ServerSockets
from wshub_core.transports.writing import write, write_prepared
from wshub_core.values.auth import AuthResult
from wshub_core.values.http import Request, Response
from wshub_core.values.paths import normalize_path
from wshub_core.values.subprotocols import refusal_as_close, select_subprotocol

logger = get_logger("wshub.native")

_MAX_REQUEST_BYTES = 65_536
"""Largest request, in bytes. `websockets` bounds the length and the number of lines, but not the
whole, which could then have 1 MiB."""

_BODY_HEADERS = (b"content-length:", b"transfer-encoding:")
"""Headers that announce a body, in lower case. websockets 17 drops such requests without a
response, so the parser never sees these headers."""

_REQUEST_LINE = re.compile(rb"[^ ]+ .+ HTTP/[0-9.]+\r?\n")
"""The first line of an HTTP request, valid or not (RFC 9112 section 3)."""

_BAD_REQUEST = Response(HTTPStatus.BAD_REQUEST, b"Bad Request\n")
_NOT_FOUND = Response(HTTPStatus.NOT_FOUND, b"Not Found\n")
_TOO_LARGE = Response(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"Request Header Fields Too Large\n"
)
_FAILED = Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"Internal Server Error\n")


class OpeningHandshake(asyncio.Protocol):
    """A socket from its acceptance to the response.

    The class is one unit, although it has many methods: parsing, callbacks and the response share
    the state of the `websockets` protocol object.

    Args:
        sockets: The sockets of the server.
        plain_socket: The socket; None for TLS.
    """

    def __init__(self, sockets: ServerSockets, plain_socket: socket.socket | None) -> None:
        self._sockets = sockets
        self._socket = plain_socket
        self._transport: asyncio.Transport
        # Exists from its first use on: most handshakes do not need it.
        self._made_protocol: ServerProtocol | None = None
        # The request, if it took the fast path.
        self._handshake: Handshake | None = None
        self._request: http11.Request | None = None
        self._request_bytes = 0
        self._has_body = False
        # Bytes that were read and not parsed yet. Bytes behind the request are early frames.
        self._unread = b""
        # The task that runs a callback of the application and then responds; None if none runs.
        self._response_task: asyncio.Task[object] | None = None
        self._is_writing_paused = False
        # True while this object waits for its turn to parse bytes.
        self._is_waiting = False

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the socket, and start the time limit of the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        self._sockets.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse bytes of the request."""
        if self._made_protocol is not None and self._made_protocol.eof_sent:
            return  # the response was sent, and no further request is read
        self._unread += data
        if self._is_waiting:
            if len(self._unread) > _MAX_REQUEST_BYTES:
                self._transport.pause_reading()
        elif not self._is_received:
            # Thousands of clients may come in one round of the event loop.
            self._is_waiting = True
            self._sockets.turns.process(self)

    def eof_received(self) -> None:
        """Note that the peer sends nothing more; asyncio then closes the socket."""
        if self._is_waiting:
            self.process_chunk()
        self._protocol.receive_eof()
        self._write_protocol()
        # asyncio closes the socket only after it has sent all bytes. A peer that does not read
        # would delay the end, so the closing time limit starts now.
        self._sockets.closing_timeouts.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the socket, and cancel the response."""
        if self._response_task is not None:
            self._response_task.cancel()
        self._sockets.remove(self)

    def pause_writing(self) -> None:
        """Stop reading while the kernel takes no bytes of the response."""
        self._is_writing_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again, so that the end of the stream is noticed."""
        self._is_writing_paused = False
        # While a callback runs, reading stays paused; see `_respond_in_task`.
        if self._response_task is None:
            self._transport.resume_reading()

    # Called by the server.

    def abort(self) -> None:
        """Close the socket at once."""
        self._transport.abort()

    def shut_down(self) -> None:
        """Close the socket at once, because there is no WebSocket to close with 1001."""
        self.abort()

    def process_chunk(self) -> bool:
        """Read the request; see `Reader.process_chunk`."""
        if self._is_waiting and not self._transport.is_closing():
            self._is_waiting = False
            self._transport.resume_reading()
            if self._request_bytes == 0:
                # Some clients send an empty line behind a body (RFC 9112 section 2.2).
                self._unread = self._unread.removeprefix(b"\r\n")
            if self._made_protocol is not None or not (self._pass_on() or self._read_handshake()):
                self._parse_request()
        return False

    def _pass_on(self) -> bool:
        """Pass a request to another path to the application; return False for all others."""
        app = self._sockets.http_app
        if app is None:
            return False
        is_other = is_for_other_path(self._unread, self._sockets.path)
        if not is_other:
            return is_other is None  # the path is not known yet
        unread, self._unread = self._unread, b""
        HTTPConnection(self._sockets, app, self._transport, self).open(unread)
        return True

    @property
    def _protocol(self) -> ServerProtocol:
        if self._made_protocol is None:
            self._made_protocol = self._sockets.make_protocol(CONNECTING)
        return self._made_protocol

    @property
    def _is_received(self) -> bool:
        return self._request is not None or self._handshake is not None

    def _read_handshake(self) -> bool:
        """Take the fast path; return False if that is not possible."""
        handshake = read_handshake(self._unread)
        if handshake is None:
            return False
        if handshake.offers_extensions and self._sockets.deflate is not None:
            return False  # websockets negotiates
        self._handshake = handshake
        self._unread = self._unread[handshake.end :]
        proxies = self._sockets.proxies
        request = make_request("GET", handshake.target, handshake.headers, self._transport, proxies)
        self._handle_request(request)
        return True

    def _parse_request(self) -> None:
        # A client has to wait for the response before it sends frames (RFC 6455 section 4.1), but
        # some do not. The parser must not see frames before the response, so the request is
        # passed to it line by line, and the bytes behind the empty line stay unread.
        while self._request is None and not self._protocol.eof_sent:
            line, newline, rest = self._unread.partition(b"\n")
            if not newline and len(line) <= MAX_LINE_BYTES:
                return
            # A longer line is passed on before its end, and `websockets` responds with an error.
            self._unread = rest
            self._parse_line(line + newline)
        if self._request is not None:
            proxies = self._sockets.proxies
            self._handle_request(read_request(self._request, self._transport, proxies))

    def _parse_line(self, line: bytes) -> None:
        self._request_bytes += len(line)
        if self._request_bytes > _MAX_REQUEST_BYTES:
            self._refuse_malformed(_TOO_LARGE)
            return
        if line.lower().startswith(_BODY_HEADERS):
            self._has_body = self._has_body or line.partition(b":")[2].strip() != b"0"
            return
        is_first_line = self._request_bytes == len(line)
        self._protocol.receive_data(line)
        events = self._protocol.events_received()
        if events:
            self._request = cast("http11.Request", events[0])
        elif isinstance(self._protocol.handshake_exc, InvalidMessage):
            if is_first_line and not _REQUEST_LINE.fullmatch(line):
                # The peer does not speak HTTP, so it gets no HTTP response.
                self._sockets.note_refusal(self._transport, 0, "not_http")
                self._write_protocol()
            else:
                self._refuse_malformed(_BAD_REQUEST)
        elif self._protocol.handshake_exc is not None:
            # websockets has prepared the response: a line is too long, or there are too many.
            self._sockets.note_refusal(
                self._transport, 414 if is_first_line else 431, "line_too_long"
            )
            self._write_protocol()

    def _refuse_malformed(self, response: Response) -> None:
        """Refuse a request that cannot be parsed."""
        self._sockets.note_refusal(self._transport, response.status, "malformed_request")
        self._sockets.closing_timeouts.add(self)
        if self._protocol.eof_sent:
            # websockets 17 has only prepared the end of the stream, and its `send_response` cannot
            # follow that. The response is therefore written here, before the end.
            self._sockets.opening_timeouts.discard(self)
            write(self._transport, write_response(response, with_body=True).serialize())
            self._write_protocol()
        else:
            self._write_response(write_response(response, with_body=True))

    def _handle_request(self, request: Request) -> None:
        if normalize_path(request.path) != self._sockets.path:
            self._respond_in_task(self._run_process_request(request))
            return
        hub = self._sockets.hub
        if (mismatch := check_request(request, has_body=self._has_body)) is not None:
            self._sockets.note_refusal(
                self._transport, mismatch.status, "no_handshake", request.path
            )
            self._respond(mismatch)
            return
        if (refusal := hub.admission.check_before_auth(request)) is not None:
            self._refuse(request, refusal)
        elif hub.config.authenticator is not None:
            context = copy_context()
            self._respond_in_task(self._authenticate(request, context), context)
        else:
            self._open_websocket(request, ANONYMOUS)

    # Callbacks of the application.

    def _respond_in_task(
        self, responding: Coroutine[object, object, None], context: Context | None = None
    ) -> None:
        """Run a callback and respond in a task; stop reading until its end."""
        # The client has sent its request in time. The callbacks have their own time limits.
        self._sockets.opening_timeouts.discard(self)
        self._transport.pause_reading()
        self._response_task = self._sockets.hub.spawn(self._run_response(responding), context)

    async def _run_response(self, responding: Coroutine[object, object, None]) -> None:
        try:
            await responding
        except Exception:
            # No time limit runs any more, so a socket without a response would never be closed.
            logger.exception("responding to a request failed")
            self._transport.abort()
        except asyncio.CancelledError:
            # The hub closes and does not wait any longer.
            self._transport.abort()
            raise
        finally:
            self._response_task = None

    async def _authenticate(self, request: Request, context: Context) -> None:
        admission = self._sockets.hub.admission
        identity = await admission.authenticate(request, context)
        # The peer may have left, and the hub may have been closed or filled up meanwhile.
        if self._transport.is_closing():
            return
        refusal = identity if isinstance(identity, Response) else admission.check_room(request)
        # Before the connection is opened: its callbacks may pause reading, and that must last.
        self._transport.resume_reading()
        if refusal is not None:
            self._refuse(request, refusal)
        elif isinstance(identity, AuthResult):
            # This task runs in the context of the authenticator, so the connection's callbacks see
            # the context variables that the authenticator has set.
            self._open_websocket(request, identity)

    async def _run_process_request(self, request: Request) -> None:
        """Answer a request to another path with ``process_request``, or with 404."""
        response: Response | None = None
        hub = self._sockets.hub
        if self._sockets.process_request is not None:
            response = await hub.callbacks.call_within(
                hub.config.open_timeout,
                copy_context(),
                "process_request",
                _FAILED,
                self._sockets.process_request,
                request,
            )
        if self._transport.is_closing():
            return  # the peer has left meanwhile
        try:
            message = self._to_http11(response or _NOT_FOUND)
        except Exception:
            # Nothing checks the type of the callback's result before.
            logger.exception("process_request returned no valid response")
            message = self._to_http11(_FAILED)
        self._write_response(message)
        # The end of the stream has to be read, but not before the peer reads the response.
        if not self._is_writing_paused:
            self._transport.resume_reading()

    # The response.

    def _open_websocket(self, request: Request, identity: AuthResult) -> None:
        if (status := self._accept(request)) == HTTPStatus.SWITCHING_PROTOCOLS:
            websocket = self._switch_protocol()
            websocket.open(request.remote_address, identity, self._unread)
        else:
            self._sockets.note_refusal(self._transport, status, "invalid_handshake", request.path)

    def _refuse(self, request: Request, refusal: Response) -> None:
        """Refuse a client with a response, or with a close frame if it cannot read responses."""
        close = refusal_as_close(request, refusal)
        if close is None:
            self._respond(refusal)
        elif self._accept(request) == HTTPStatus.SWITCHING_PROTOCOLS:
            # The WebSocket has no connection of the hub. It ends with the closing handshake.
            self._switch_protocol().refuse(*close, self._unread)

    def _accept(self, request: Request) -> int:
        """Respond to the handshake, which may be invalid; return the status."""
        subprotocol = select_subprotocol(request)
        if self._handshake is not None:
            write(self._transport, self._handshake.accept(subprotocol))
            self._sockets.opening_timeouts.discard(self)
            return HTTPStatus.SWITCHING_PROTOCOLS
        assert self._request is not None
        # websockets validates the headers here, and returns an error response if one is invalid.
        response = self._protocol.accept(self._request)
        if subprotocol is not None:
            response.headers["Sec-WebSocket-Protocol"] = subprotocol
        self._protocol.send_response(response)
        self._write_protocol()
        self._sockets.opening_timeouts.discard(self)
        return response.status_code

    def _switch_protocol(self) -> NativeTransport:
        """Replace this object by a `NativeTransport`; the request and its headers are freed."""
        deflate = self._sockets.deflate
        if deflate is not None and self._made_protocol is not None and self._protocol.extensions:
            websocket: NativeTransport = CompressedTransport(
                deflate, self._sockets, self._transport, self._socket
            )
        else:
            websocket = NativeTransport(self._sockets, self._transport, self._socket)
        self._transport.set_protocol(websocket)
        self._sockets.replace(self, websocket)
        return websocket

    def _respond(self, response: Response) -> None:
        """Send a plain HTTP response, which ends the connection."""
        self._write_response(self._to_http11(response))

    def _to_http11(self, response: Response) -> http11.Response:
        is_head = self._request is not None and self._request.method == "HEAD"
        return write_response(response, with_body=not is_head)

    def _write_response(self, response: http11.Response) -> None:
        self._sockets.opening_timeouts.discard(self)
        self._protocol.send_response(response)
        self._write_protocol()

    def _write_protocol(self) -> None:
        write_prepared(self._transport, self._protocol)
        if self._protocol.close_expected():
            self._sockets.closing_timeouts.add(self)
