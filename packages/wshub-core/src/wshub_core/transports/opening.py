"""The opening handshake: one HTTP request on a socket, and its response.

The Sans-I/O layer of `websockets` parses the request. A granted handshake hands its socket to a
`NativeTransport`; every other request gets a response, which ends the connection.
"""

import asyncio
import logging
import re
from collections.abc import Coroutine
from contextvars import Context, copy_context
from http import HTTPStatus
from typing import cast

from websockets import http11
from websockets.exceptions import InvalidMessage
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol

from wshub_core.connections.admission import ANYONE
from wshub_core.logs import get_logger
from wshub_core.transports.http_messages import read_request, write_response
from wshub_core.transports.native import NativeTransport, end_writing
from wshub_core.transports.sockets import ServerSockets
from wshub_core.values.auth import AuthResult
from wshub_core.values.http import METHOD_NOT_ALLOWED, UPGRADE_REQUIRED, Request, Response
from wshub_core.values.paths import normalize_path
from wshub_core.values.subprotocols import refusal_as_close, select_subprotocol

logger = get_logger("wshub.native")

# At debug level `websockets` logs headers and frames, secrets included. That must not follow from
# the level of the root logger, so this logger has a level of its own.
_wire_logger = get_logger("wshub.wire")
_wire_logger.setLevel(logging.WARNING)

_MAX_REQUEST_BYTES = 65_536
"""Largest request, in bytes. The library bounds each line and their number; this bounds both."""

_MAX_LINE_BYTES = 8_192
"""Length from which the library refuses a line, so that an unfinished line can be given to it."""

_BODY_HEADERS = (b"content-length:", b"transfer-encoding:")
"""Headers that announce a body. The library refuses such requests without a response."""

_REQUEST_LINE = re.compile(rb"[^ ]+ .+ HTTP/[0-9.]+\r?\n")
"""The first line of an HTTP request, valid or not (RFC 9112 section 3)."""

_BAD_REQUEST = Response(HTTPStatus.BAD_REQUEST, b"Bad Request\n")
_HAS_BODY = Response(HTTPStatus.BAD_REQUEST, b"A WebSocket handshake has no body\n")
_NOT_FOUND = Response(HTTPStatus.NOT_FOUND, b"Not Found\n")
_TOO_LARGE = Response(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"Request Header Fields Too Large\n"
)
_FAILED = Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"Internal Server Error\n")


class OpeningHandshake(asyncio.Protocol):
    """A socket from its acceptance to the response.

    Args:
        sockets: The sockets of the server.
    """

    def __init__(self, sockets: ServerSockets) -> None:
        self._sockets = sockets
        self._protocol = ServerProtocol(
            max_size=sockets.hub.config.max_message_bytes, logger=_wire_logger
        )
        self._transport: asyncio.Transport
        self._request: http11.Request | None = None
        self._request_bytes = 0
        self._has_body = False
        # Bytes that were read and not parsed yet; behind the request they are early frames.
        self._unread = b""
        # The task that answers, while an application's callback runs.
        self._answer: asyncio.Task[object] | None = None

    # The calls of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the socket."""
        self._transport = cast("asyncio.Transport", transport)
        self._sockets.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse bytes of the request."""
        if self._protocol.eof_sent:
            return  # the request has its response, and no further request is read
        self._unread += data
        if self._request is None:
            self._parse_request()

    def eof_received(self) -> None:
        """Note that the peer sends nothing more; asyncio then closes the socket."""
        self._protocol.receive_eof()
        self._write_protocol()
        # asyncio closes the socket once everything is sent, and a peer that does not read can
        # delay that.
        self._sockets.closing.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed, and cancel the answer."""
        if self._answer is not None:
            self._answer.cancel()
        self._sockets.remove(self)

    def pause_writing(self) -> None:
        """Stop reading while the kernel takes no bytes of the response."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again, so that the end of the peer is noticed."""
        if self._answer is None:
            self._transport.resume_reading()

    # The calls of the server.

    def abort(self) -> None:
        """Close the socket at once."""
        self._transport.abort()

    def shut_down(self) -> None:
        """Close the socket at once: the server closes."""
        self.abort()

    # The request.

    def _parse_request(self) -> None:
        # Line by line, because bytes behind the request must not be parsed before the response: a
        # client has to wait for it (RFC 6455 section 4.1), but not every client does.
        while self._request is None and not self._protocol.eof_sent:
            line, newline, rest = self._unread.partition(b"\n")
            if not newline and len(line) <= _MAX_LINE_BYTES:
                return
            self._unread = rest
            self._parse_line(line + newline)
        if self._request is not None:
            self._answer_request(self._request)

    def _parse_line(self, line: bytes) -> None:
        self._request_bytes += len(line)
        if self._request_bytes > _MAX_REQUEST_BYTES:
            self._refuse_unreadable(_TOO_LARGE)
            return
        if line.lower().startswith(_BODY_HEADERS):
            self._has_body = self._has_body or line.partition(b":")[2].strip() != b"0"
            return
        self._protocol.receive_data(line)
        events = self._protocol.events_received()
        if events:
            self._request = cast("http11.Request", events[0])
        elif isinstance(self._protocol.handshake_exc, InvalidMessage):
            is_first_line = self._request_bytes == len(line)
            if is_first_line and not _REQUEST_LINE.fullmatch(line):
                # The peer does not speak HTTP, so it cannot read a response.
                self._sockets.hub.admission.count_refusal()
                self._write_protocol()
            else:
                self._refuse_unreadable(_BAD_REQUEST)
        elif self._protocol.handshake_exc is not None:
            # The library has responded: a line is too long, or there are too many.
            self._sockets.hub.admission.count_refusal()
            self._write_protocol()

    def _refuse_unreadable(self, response: Response) -> None:
        self._sockets.hub.admission.count_refusal()
        self._sockets.closing.add(self)
        if self._protocol.eof_sent:
            # The library has given up on the request, and has no response.
            self._sockets.opening.discard(self)
            self._write(write_response(response, with_body=True).serialize())
            self._write_protocol()
        else:
            self._end_with(write_response(response, with_body=True))

    def _answer_request(self, http_request: http11.Request) -> None:
        request = read_request(http_request, self._transport)
        if normalize_path(request.path) != self._sockets.path:
            self._answer_later(self._ask_application(request))
            return
        hub = self._sockets.hub
        mismatch = self._check_handshake(http_request)
        if mismatch is not None:
            hub.admission.count_refusal()
            self._respond(mismatch)
            return
        refusal = hub.admission.check(request)
        if refusal is not None:
            self._refuse(request, http_request, refusal)
        elif hub.config.authenticator is not None:
            context = copy_context()
            self._answer_later(self._authenticate(request, http_request, context), context)
        else:
            self._open(request, http_request, ANYONE)

    def _check_handshake(self, http_request: http11.Request) -> Response | None:
        """Return the response to a request that cannot be a handshake; None for any other."""
        if http_request.method == "HEAD":
            return UPGRADE_REQUIRED
        if http_request.method != "GET":
            return METHOD_NOT_ALLOWED
        return _HAS_BODY if self._has_body else None

    # Callbacks of the application.

    def _answer_later(
        self, answer: Coroutine[object, object, None], context: Context | None = None
    ) -> None:
        """Answer in a task, and stop reading until its end."""
        # The client has done its part of the opening in time; the answer has its own time limits.
        self._sockets.opening.discard(self)
        self._transport.pause_reading()
        self._answer = self._sockets.hub.spawn(self._finish_answer(answer), context)

    async def _finish_answer(self, answer: Coroutine[object, object, None]) -> None:
        try:
            await answer
        except Exception:
            # A socket without a response would stay open for ever.
            logger.exception("answering failed")
            self._transport.abort()
        except asyncio.CancelledError:
            # The hub closes and does not wait any longer.
            self._transport.abort()
            raise
        finally:
            self._answer = None

    async def _authenticate(
        self, request: Request, http_request: http11.Request, context: Context
    ) -> None:
        admission = self._sockets.hub.admission
        identity = await admission.authenticate(request, context)
        # The peer may have left, and the hub may have been closed or filled up meanwhile.
        if self._transport.is_closing():
            return
        refusal = identity if isinstance(identity, Response) else admission.check_room()
        # First, because the callbacks of an open connection decide about reading.
        self._transport.resume_reading()
        if refusal is not None:
            self._refuse(request, http_request, refusal)
        elif isinstance(identity, AuthResult):
            # In the context of this task, with the variables that the authenticator has set.
            self._open(request, http_request, identity)

    async def _ask_application(self, request: Request) -> None:
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
        try:
            message = self._serialize(response or _NOT_FOUND)
        except Exception:
            # A callback without annotations can return anything.
            logger.exception("process_request returned no valid response")
            message = self._serialize(_FAILED)
        self._end_with(message)
        self._transport.resume_reading()

    # The response.

    def _open(self, request: Request, http_request: http11.Request, identity: AuthResult) -> None:
        if self._accept(request, http_request):
            websocket = self._hand_over()
            websocket.open(request.remote_address, identity, self._unread)
        else:
            self._sockets.hub.admission.count_refusal()

    def _refuse(self, request: Request, http_request: http11.Request, refusal: Response) -> None:
        """Refuse in a response or, for a client that cannot read it, in a close frame."""
        close = refusal_as_close(request, refusal)
        if close is None:
            self._respond(refusal)
        elif self._accept(request, http_request):
            self._hand_over().close(*close)

    def _accept(self, request: Request, http_request: http11.Request) -> bool:
        """Respond to the handshake; return False if it was invalid."""
        response = self._protocol.accept(http_request)
        subprotocol = select_subprotocol(request)
        if subprotocol is not None:
            response.headers["Sec-WebSocket-Protocol"] = subprotocol
        self._protocol.send_response(response)
        self._write_protocol()
        self._sockets.opening.discard(self)
        return self._protocol.state is OPEN

    def _hand_over(self) -> NativeTransport:
        """Give the socket to a WebSocket. This object, with all headers, is then freed."""
        websocket = NativeTransport(self._sockets, self._protocol, self._transport)
        self._transport.set_protocol(websocket)
        self._sockets.replace(self, websocket)
        return websocket

    def _respond(self, response: Response) -> None:
        """Send a plain HTTP response, which ends the connection."""
        self._end_with(self._serialize(response))

    def _serialize(self, response: Response) -> http11.Response:
        is_head = self._request is not None and self._request.method == "HEAD"
        return write_response(response, with_body=not is_head)

    def _end_with(self, response: http11.Response) -> None:
        self._sockets.opening.discard(self)
        self._protocol.send_response(response)
        self._write_protocol()

    def _write_protocol(self) -> None:
        data_to_send = self._protocol.data_to_send()
        if data_to_send:
            self._write(b"".join(data_to_send))
            if data_to_send[-1] == SEND_EOF:
                end_writing(self._transport)
        if self._protocol.close_expected():
            self._sockets.closing.add(self)

    def _write(self, data: bytes) -> None:
        # asyncio logs writes to a socket that the peer has reset.
        if not self._transport.is_closing():
            self._transport.write(data)
