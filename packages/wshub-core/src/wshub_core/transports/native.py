"""The native transport: `asyncio` below, the Sans-I/O layer of `websockets` in the middle.

`websockets` does the opening handshake and every byte of RFC 6455 on the way in. On the way out,
messages come as finished frames. A connection has no task and no timer of its own.
"""

import asyncio
import logging
import re
from collections.abc import Coroutine, Sequence
from contextvars import Context, copy_context
from http import HTTPStatus
from typing import Any, cast

from websockets import http11
from websockets.exceptions import InvalidMessage
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol

from wshub_core.connections.admission import ANYONE
from wshub_core.connections.connection import ServerConnection
from wshub_core.logs import get_logger
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.transports.http_messages import read_request, write_response
from wshub_core.transports.sockets import ServerSockets
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import CloseCode, DisconnectCause
from wshub_core.values.http import METHOD_NOT_ALLOWED, UPGRADE_REQUIRED, Request, Response
from wshub_core.values.paths import normalize_path
from wshub_core.values.subprotocols import refusal_as_close, select_subprotocol

logger = get_logger("wshub.native")

# At debug level `websockets` writes headers and frames to its log, secrets included. Whoever wants
# that sets the level of this logger, and not by accident that of the root.
_wire_logger = get_logger("wshub.wire")
_wire_logger.setLevel(logging.WARNING)

_MOST_REQUEST_BYTES = 65_536
"""The most bytes of a request. The library bounds each line and their number; this bounds both."""

_LONGEST_LINE = 8_192
"""The length at which the library refuses a line, whether its end has come or not."""

_BODY_HEADERS = (b"content-length:", b"transfer-encoding:")
"""Headers that announce a body. The library refuses such requests without an answer."""

_CHUNK_BYTES = 1_024
"""How many bytes are processed between two looks at the clock: at most 170 frames, or 3 ms."""

_MAX_UNREAD_BYTES = 65_536
"""How many bytes may wait to be processed before no more are taken from the socket."""


_REQUEST_LINE = re.compile(rb"[^ ]+ .+ HTTP/[0-9.]+\r?\n")
"""What a request begins with, valid or not (RFC 9112 section 3)."""

_FAILED = Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"Internal Server Error\n")


class NativeTransport(asyncio.Protocol):
    """One socket: first an HTTP request, then, if that is granted, a WebSocket."""

    __slots__ = (
        "_answer",
        "_connection",
        "_fragments",
        "_fragments_are_text",
        "_has_body",
        "_has_ended",
        "_has_eof",
        "_is_lost",
        "_is_processing",
        "_is_reading_held",
        "_is_refused",
        "_is_writing_held",
        "_protocol",
        "_request",
        "_request_bytes",
        "_sockets",
        "_transport",
        "_unread",
        "_unread_start",
    )

    def __init__(self, sockets: ServerSockets) -> None:
        self._sockets = sockets
        self._protocol = ServerProtocol(
            max_size=sockets.hub.config.max_message_bytes, logger=_wire_logger
        )
        self._transport: asyncio.Transport
        self._request: http11.Request | None = None
        self._request_bytes = 0
        self._has_body = False
        self._answer: asyncio.Task[object] | None = None
        # What the socket has given and nobody has looked at yet, from `_unread_start` on.
        self._unread = b""
        self._unread_start = 0
        self._is_processing = False
        self._has_eof = False
        self._is_lost = False
        self._has_ended = False
        self._connection: ServerConnection | None = None
        self._fragments: bytearray | None = None
        self._fragments_are_text = False
        self._is_reading_held = False
        self._is_refused = False
        self._is_writing_held = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the socket's transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._sockets.add(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._is_open:
            if self._connection is not None:
                # Any byte proves life.
                self._connection.note_heard(self._sockets.hub.clock.time())
            self._unread = self._unread[self._unread_start :] + data
            self._unread_start = 0
            self._process_unread()
            if len(self._unread) - self._unread_start > _MAX_UNREAD_BYTES:
                self._transport.pause_reading()
        elif self._protocol.eof_sent:
            pass  # it has been answered, and that was that
        elif self._request is None:
            self._feed_request(data)
        else:
            self._unread += data

    def eof_received(self) -> None:
        """Note that the peer sends nothing more, and let asyncio close the socket."""
        self._has_eof = True
        if self._is_open and self._has_unread:
            self._process_unread()
        else:
            self._end_reading()
        # asyncio closes the socket once all is sent, which a peer that does not read can put off.
        self._sockets.closing.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed."""
        self._is_lost = True
        if self._is_open and self._has_unread and not self._is_closed_by_hub:
            # Frames that came before are still served.
            self._process_unread()
        else:
            self._end()

    def process_chunk(self) -> bool:
        """Process some of the bytes that wait; see `Reader.process_chunk`."""
        if self._has_ended:
            return False
        chunk = self._unread[self._unread_start : self._unread_start + _CHUNK_BYTES]
        self._unread_start += len(chunk)
        try:
            self._feed(chunk)
        except BaseException:
            # A bug of ours ends this connection, and no other.
            self._is_processing = False
            self._transport.abort()
            if self._is_lost:
                self._end()
            raise
        if self._has_unread and self._may_read:
            return True
        self._is_processing = False
        if not self._has_unread:
            self._unread = b""
            self._unread_start = 0
        if self._is_lost:
            self._end()
        elif self._has_eof:
            self._end_reading()
        else:
            self._read_if_allowed()
        return False

    def _process_unread(self) -> None:
        if self._has_unread and self._may_read and not self._is_processing:
            self._is_processing = True
            self._sockets.turns.process(self)

    @property
    def _is_open(self) -> bool:
        """Whether bytes are frames, of a connection or of a client that was refused."""
        return self._connection is not None or self._is_refused

    @property
    def _is_closed_by_hub(self) -> bool:
        return self._connection is not None and self._connection.ending is not None

    @property
    def _has_unread(self) -> bool:
        return self._unread_start < len(self._unread)

    @property
    def _may_read(self) -> bool:
        # What came before the end is bounded already, and there is nobody to hold back any more.
        is_over = self._has_eof or self._is_lost
        return is_over or not (self._is_reading_held or self._is_writing_held)

    def _end_reading(self) -> None:
        if self._connection is not None:
            self._sockets.hub.lifecycle.leave(self._connection)
        self._protocol.receive_eof()
        self._write_protocol()

    def _end(self) -> None:
        self._has_ended = True
        if self._answer is not None:
            self._answer.cancel()
        self._sockets.remove(self)
        if self._connection is not None:
            self._sockets.hub.lifecycle.disconnect(self._connection, *self._describe_end())

    def pause_writing(self) -> None:
        """Note that the kernel takes no more bytes; while it does not, none are read either.

        A peer that sends and never reads would otherwise fill the memory with answers.
        """
        self._is_writing_held = True
        self._transport.pause_reading()
        if self._connection is not None:
            self._sockets.hub.lifecycle.stalled_writes.pause_writing(self._connection)

    def resume_writing(self) -> None:
        """Note that the kernel has taken all there was."""
        self._is_writing_held = False
        self._read_if_allowed()
        if self._connection is not None:
            self._sockets.hub.lifecycle.stalled_writes.resume_writing(self._connection)

    def _describe_end(self) -> tuple[DisconnectCause, int, str]:
        received, sent = self._protocol.close_rcvd, self._protocol.close_sent
        if received is not None and self._protocol.close_rcvd_then_sent:
            return DisconnectCause.CLIENT_CLOSED, received.code, received.reason
        if sent is not None:
            # The protocol closes by itself only when the peer has broken it.
            return DisconnectCause.PROTOCOL_ERROR, sent.code, sent.reason
        return DisconnectCause.LOST, 1006, ""

    @property
    def is_reading(self) -> bool:
        """Whether bytes are taken from the socket now."""
        return self._transport.is_reading()

    # What sessions call: the Transport protocol.

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        """Write messages in one go; see `Transport.send`."""
        self._write(self._sockets.join(messages))
        return self._transport.get_write_buffer_size()

    def unsent_bytes(self) -> int:
        """Return what the socket's buffer holds; see `Transport.unsent_bytes`."""
        return self._transport.get_write_buffer_size()

    def ping(self) -> None:
        """Send a ping; see `Transport.ping`."""
        if self._protocol.state is OPEN:
            self._protocol.send_ping(b"")
            self._write_protocol()

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; see `Transport.close`."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self._write_protocol()

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        self._is_reading_held = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._is_reading_held = False
        self._read_if_allowed()

    def abort(self) -> None:
        """Close the socket at once; what was not sent is lost."""
        self._transport.abort()

    # What the acceptor calls.

    def shut_down(self) -> None:
        """End politely: a WebSocket with 1001, anything else at once."""
        if self._connection is None:
            self.abort()
        else:
            self._sockets.hub.close_connection(
                self._connection, CloseCode.GOING_AWAY, "server shutdown"
            )

    # The opening handshake.

    def _feed_request(self, data: bytes) -> None:
        # Line by line, because what follows the request must not be parsed before it is answered:
        # a client has to wait for that (RFC 6455 section 4.1), but not every client does.
        self._unread += data
        while self._request is None and not self._protocol.eof_sent:
            line, newline, rest = self._unread.partition(b"\n")
            if not newline and len(line) <= _LONGEST_LINE:
                return
            self._unread = rest
            self._feed_line(line + newline)
        if self._request is not None:
            self._answer_request(self._request)

    def _feed_line(self, line: bytes) -> None:
        self._request_bytes += len(line)
        if self._request_bytes > _MOST_REQUEST_BYTES:
            self._refuse_request(
                Response(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"Request Header Fields Too Large\n"
                )
            )
            return
        if line.lower().startswith(_BODY_HEADERS):
            self._has_body = self._has_body or line.partition(b":")[2].strip() != b"0"
            return
        self._protocol.receive_data(line)
        events = self._protocol.events_received()
        if events:
            self._request = cast("http11.Request", events[0])
        elif isinstance(self._protocol.handshake_exc, InvalidMessage):
            if self._request_bytes == len(line) and not _REQUEST_LINE.fullmatch(line):
                # It is no HTTP, so there is no way to answer.
                self._sockets.hub.admission.count_refusal()
                self._write_protocol()
            else:
                self._refuse_request(Response(HTTPStatus.BAD_REQUEST, b"Bad Request\n"))
        elif self._protocol.handshake_exc is not None:
            # The library has answered: a line is too long, or there are too many.
            self._sockets.hub.admission.count_refusal()
            self._write_protocol()

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
        """Return the answer to a request that cannot be a handshake; None for any other."""
        if http_request.method == "HEAD":
            return UPGRADE_REQUIRED
        if http_request.method != "GET":
            return METHOD_NOT_ALLOWED
        if self._has_body:
            return Response(HTTPStatus.BAD_REQUEST, b"A WebSocket handshake has no body\n")
        return None

    def _refuse_request(self, response: Response) -> None:
        """Answer a request that cannot be read."""
        self._sockets.hub.admission.count_refusal()
        self._sockets.closing.add(self)
        if self._protocol.eof_sent:
            # The library has given up on the request, and has no answer.
            self._sockets.opening.discard(self)
            self._write(write_response(response, with_body=True).serialize())
            self._write_protocol()
        else:
            self._end_with(write_response(response, with_body=True))

    def _answer_later(
        self, answer: Coroutine[Any, Any, None], context: Context | None = None
    ) -> None:
        """Answer in a task, until whose end nothing more is read."""
        # The client has done its part of the opening in time; the rest has a timeout of its own.
        self._sockets.opening.discard(self)
        self.pause_reading()
        self._answer = self._sockets.hub.spawn(self._finish_answer(answer), context)

    async def _finish_answer(self, answer: Coroutine[Any, Any, None]) -> None:
        try:
            await answer
        except Exception:
            # Half an answer helps nobody, and a socket without one would stay for ever.
            logger.exception("answering failed")
            self._transport.abort()
        except asyncio.CancelledError:
            # The hub does not wait any longer; nobody else would end the socket.
            self._transport.abort()
            raise
        finally:
            self._answer = None

    async def _authenticate(
        self, request: Request, http_request: http11.Request, context: Context
    ) -> None:
        hub = self._sockets.hub
        identity = await hub.admission.authenticate(request, context)
        # The hub may have been closed, or filled up, meanwhile.
        if self._transport.is_closing():
            return
        refusal = identity if isinstance(identity, Response) else hub.admission.check_room()
        # Before the connection is there, because then its callbacks decide about reading.
        self.resume_reading()
        if refusal is not None:
            self._refuse(request, http_request, refusal)
        elif isinstance(identity, AuthResult):
            # With what the authenticator has set in the context of this task.
            self._open(request, http_request, identity)

    def _refuse(self, request: Request, http_request: http11.Request, refusal: Response) -> None:
        """Say no, in a response or, where a client cannot read that, in a close frame."""
        close = refusal_as_close(request, refusal)
        if close is None:
            self._respond(refusal)
        elif self._shake_hands(request, http_request):
            self._is_refused = True
            self.close(*close)

    def _shake_hands(self, request: Request, http_request: http11.Request) -> bool:
        """Finish the opening handshake; return whether it has succeeded."""
        response = self._protocol.accept(http_request)
        subprotocol = select_subprotocol(request)
        if subprotocol is not None:
            response.headers["Sec-WebSocket-Protocol"] = subprotocol
        self._protocol.send_response(response)
        self._write_protocol()
        self._sockets.opening.discard(self)
        return self._protocol.state is OPEN

    def _open(self, request: Request, http_request: http11.Request, identity: AuthResult) -> None:
        if not self._shake_hands(request, http_request):
            self._sockets.hub.admission.count_refusal()
            return
        # What the kernel does not take at once holds the writing: more then waits in the outbox,
        # where it is counted and bounded. (TLS transports take 0 for "never write".)
        self._transport.set_write_buffer_limits(high=1, low=0)
        # The request has done its work; its headers are many bytes, and some are secrets.
        self._request = None
        self._connection = self._sockets.hub.connect(self, request.remote_address, identity)
        self._process_unread()

    async def _ask_application(self, request: Request) -> None:
        response: Response | None = None
        ask = self._sockets.process_request
        hub = self._sockets.hub
        if ask is not None:
            response = await hub.callbacks.call_within(
                hub.config.open_timeout,
                copy_context(),
                "process_request",
                _FAILED,
                ask,
                request,
            )
        try:
            message = self._serialize(response or Response(HTTPStatus.NOT_FOUND, b"Not Found\n"))
        except Exception:
            # Whatever the application has returned, it is no response.
            logger.exception("process_request returned no valid response")
            message = self._serialize(_FAILED)
        self._end_with(message)
        self.resume_reading()

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

    # The WebSocket.

    def _feed(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if not self._receive_frame(cast("Frame", event)):
                break
        self._write_protocol()

    def _receive_frame(self, frame: Frame) -> bool:
        """Put messages together from frames (RFC 6455 section 5.4) and pass them on.

        Returns:
            Whether the next frame counts.
        """
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                return self._receive_message(frame.data, is_text)
            self._fragments = bytearray(frame.data)
            self._fragments_are_text = is_text
        elif frame.opcode is Opcode.CONT:
            assert self._fragments is not None, "the protocol refuses a stray continuation"
            self._fragments += frame.data
            if frame.fin:
                message, self._fragments = self._fragments, None
                return self._receive_message(message, self._fragments_are_text)
        return True

    def _receive_message(self, payload: bytes | bytearray | memoryview, is_text: bool) -> bool:
        assert not isinstance(payload, memoryview), "only frames to be sent can be views"
        if is_text:
            try:
                payload.decode()
            except UnicodeDecodeError:
                if self._protocol.state is OPEN:
                    self._protocol.fail(CloseCode.INVALID_DATA, "invalid UTF-8 in a text message")
                return False
        if self._connection is not None:
            self._connection.receive(payload)
        return True

    def _write_protocol(self) -> None:
        """Write what the protocol has to say: the handshake, pongs, the closing handshake."""
        data_to_send = self._protocol.data_to_send()
        if data_to_send:
            # In one write, because a flood of pings asks for as many pongs.
            self._write(b"".join(data_to_send))
            if data_to_send[-1] == SEND_EOF:
                self._end_writing()
        if self._protocol.close_expected():
            self._sockets.closing.add(self)
            if self._connection is not None:
                # One of both sides has said that it ends, so nothing may follow.
                self._sockets.hub.lifecycle.leave(self._connection)

    def _write(self, data: bytes) -> None:
        # asyncio logs writes to a socket that the peer has reset.
        if not self._transport.is_closing():
            self._transport.write(data)

    def _end_writing(self) -> None:
        if self._transport.can_write_eof():
            try:
                self._transport.write_eof()
            except OSError:  # the peer was quicker, and the socket is not connected any more
                self._transport.abort()
        else:
            self._transport.close()

    def _read_if_allowed(self) -> None:
        if not self._may_read or self._is_lost:
            return
        if self._has_unread and self._is_open:
            if not self._is_processing:
                self._is_processing = True
                self._sockets.turns.add(self)
        else:
            self._transport.resume_reading()
