"""The native transport: `asyncio` below, the Sans-I/O layer of `websockets` in the middle.

`websockets` does the opening handshake and every byte of RFC 6455 on the way in. On the way out,
messages come as finished frames. A connection has no task and no timer of its own.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from http import HTTPStatus
from inspect import isawaitable
from typing import Any, cast

from websockets import http11
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol

from wshub_core.logs import get_logger
from wshub_core.runtime.acceptor import Acceptor
from wshub_core.runtime.door import ANYONE
from wshub_core.runtime.http_messages import format_address, read_request, write_response
from wshub_core.runtime.session import Session
from wshub_core.state.prepared import PreparedMessage
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import CloseCode, DisconnectCause
from wshub_core.values.http import Request, Response
from wshub_core.values.subprotocols import refusal_as_close, select_subprotocol

logger = get_logger("wshub.native")

# At debug level `websockets` writes headers and frames to its log, secrets included. Whoever wants
# that sets the level of this logger, and not by accident that of the root.
_wire_logger = get_logger("wshub.wire")
_wire_logger.setLevel(logging.WARNING)

_MOST_REQUEST_BYTES = 65_536
"""The most bytes of a request. The library bounds each line and their number; this bounds both."""


class NativeTransport(asyncio.Protocol):
    """One socket: first an HTTP request, then, if that is granted, a WebSocket."""

    __slots__ = (
        "_acceptor",
        "_answer",
        "_early_data",
        "_fragments",
        "_fragments_are_text",
        "_is_reading_held",
        "_is_refused",
        "_is_writing_held",
        "_protocol",
        "_request",
        "_request_bytes",
        "_session",
        "_transport",
    )

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._protocol = ServerProtocol(
            max_size=acceptor.manager.config.max_message_bytes, logger=_wire_logger
        )
        self._transport: asyncio.Transport
        self._request: http11.Request | None = None
        self._request_bytes = 0
        self._answer: asyncio.Task[object] | None = None
        self._early_data = b""
        self._session: Session | None = None
        self._fragments: bytearray | None = None
        self._fragments_are_text = False
        self._is_reading_held = False
        self._is_refused = False
        self._is_writing_held = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the socket's transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._acceptor.add(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._session is not None:
            # Any byte proves life.
            self._session.last_heard = self._acceptor.clock.time()
            self._feed(data)
        elif self._is_refused:
            # All that matters of what it says is its close frame.
            self._protocol.receive_data(data)
            self._protocol.events_received()
            self._write_protocol()
        elif self._protocol.eof_sent:
            pass  # it has been answered, and that was that
        elif self._request is None:
            self._feed_request(data)
        else:
            self._early_data += data

    def eof_received(self) -> None:
        """Note that the peer sends nothing more, and let asyncio close the socket."""
        if self._session is not None:
            self._acceptor.manager.leave(self._session)
        self._protocol.receive_eof()
        self._write_protocol()
        # asyncio closes the socket once all is sent, which a peer that does not read can put off.
        self._acceptor.closing.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed."""
        self._protocol.receive_eof()
        if self._answer is not None:
            self._answer.cancel()
        self._acceptor.remove(self)
        if self._session is not None:
            self._acceptor.manager.disconnect(self._session, *self._describe_end())

    def pause_writing(self) -> None:
        """Note that the kernel takes no more bytes; while it does not, none are read either.

        A peer that sends and never reads would otherwise fill the memory with answers.
        """
        self._is_writing_held = True
        self._transport.pause_reading()
        if self._session is not None:
            self._acceptor.manager.pause_writing(self._session)

    def resume_writing(self) -> None:
        """Note that the kernel has taken all there was."""
        self._is_writing_held = False
        self._read_if_allowed()
        if self._session is not None:
            self._acceptor.manager.resume_writing(self._session)

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
        self._transport.write(self._acceptor.join(messages))
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
        if self._session is None:
            self.abort()
        else:
            self._acceptor.manager.close(self._session, CloseCode.GOING_AWAY, "server shutdown")

    # The opening handshake.

    def _feed_request(self, data: bytes) -> None:
        # Line by line, because what follows the request must not be parsed before it is answered:
        # a client has to wait for that (RFC 6455 section 4.1), but not every client does.
        lines = data.splitlines(keepends=True)
        for index, line in enumerate(lines, start=1):
            self._request_bytes += len(line)
            if self._request_bytes > _MOST_REQUEST_BYTES:
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                self._respond(Response(status, b"Request Header Fields Too Large\n"))
                return
            self._protocol.receive_data(line)
            events = self._protocol.events_received()
            if events:
                self._request = cast("http11.Request", events[0])
                self._early_data = b"".join(lines[index:])
                self._answer_request(self._request)
                return
            if self._protocol.handshake_exc is not None:
                self._write_protocol()
                return

    def _answer_request(self, http_request: http11.Request) -> None:
        request = read_request(http_request, format_address(self._transport))
        if request.path != self._acceptor.path:
            self._answer_later(self._ask_application(request))
            return
        refusal = self._acceptor.manager.door.check(request)
        if refusal is not None:
            self._refuse(request, http_request, refusal)
        elif self._acceptor.manager.config.authenticator is not None:
            self._answer_later(self._authenticate(request, http_request))
        else:
            self._open(request, http_request, ANYONE)

    def _answer_later(self, answer: Coroutine[Any, Any, None]) -> None:
        """Answer in a task, until whose end nothing more is read."""
        # The client has done its part of the opening in time; the rest has a timeout of its own.
        self._acceptor.opening.discard(self)
        self.pause_reading()
        self._answer = self._acceptor.manager.spawn(self._finish_answer(answer))

    async def _finish_answer(self, answer: Coroutine[Any, Any, None]) -> None:
        try:
            await answer
        except Exception:
            # Half an answer helps nobody, and a socket without one would stay for ever.
            logger.exception("answering failed")
            self._transport.abort()
        finally:
            self._answer = None

    async def _authenticate(self, request: Request, http_request: http11.Request) -> None:
        manager = self._acceptor.manager
        identity = await manager.door.authenticate(request)
        # The hub may have been closed, or filled up, meanwhile.
        if self._transport.is_closing():
            return
        refusal = identity if isinstance(identity, Response) else manager.door.check_room()
        # Before the connection is there, because then its callbacks decide about reading.
        self.resume_reading()
        if refusal is not None:
            self._refuse(request, http_request, refusal)
        elif isinstance(identity, AuthResult):
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
        self._acceptor.opening.discard(self)
        return self._protocol.state is OPEN

    def _open(self, request: Request, http_request: http11.Request, identity: AuthResult) -> None:
        if not self._shake_hands(request, http_request):
            self._acceptor.manager.counters.refusals += 1
            return
        # What the kernel does not take at once holds the writing: more then waits in the outbox,
        # where it is counted and bounded. (TLS transports take 0 for "never write".)
        self._transport.set_write_buffer_limits(high=1, low=0)
        # The request has done its work; its headers are many bytes, and some are secrets.
        self._request = None
        self._session = self._acceptor.manager.connect(self, request.remote_address, identity)
        early_data, self._early_data = self._early_data, b""
        if early_data:
            self._feed(early_data)

    async def _ask_application(self, request: Request) -> None:
        response: Response | None = None
        ask = self._acceptor.process_request
        try:
            if ask is not None:
                async with asyncio.timeout(self._acceptor.manager.config.open_timeout):
                    answer = ask(request)
                    response = await answer if isawaitable(answer) else answer
            message = self._serialize(response or Response(HTTPStatus.NOT_FOUND, b"Not Found\n"))
        except Exception:
            logger.exception("process_request failed for %s", request.path)
            message = self._serialize(
                Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"Internal Server Error\n")
            )
        self._end_with(message)
        self.resume_reading()

    def _respond(self, response: Response) -> None:
        """Send a plain HTTP response, which ends the connection."""
        self._end_with(self._serialize(response))

    def _serialize(self, response: Response) -> http11.Response:
        is_head = self._request is not None and self._request.method == "HEAD"
        return write_response(response, with_body=not is_head)

    def _end_with(self, response: http11.Response) -> None:
        self._acceptor.opening.discard(self)
        self._protocol.send_response(response)
        self._write_protocol()

    # The WebSocket.

    def _feed(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            self._receive_frame(cast("Frame", event))
        self._write_protocol()

    def _receive_frame(self, frame: Frame) -> None:
        """Put messages together from frames (RFC 6455 section 5.4) and pass them on."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                self._receive_message(frame.data, is_text)
            else:
                self._fragments = bytearray(frame.data)
                self._fragments_are_text = is_text
        elif frame.opcode is Opcode.CONT:
            assert self._fragments is not None, "the protocol refuses a stray continuation"
            self._fragments += frame.data
            if frame.fin:
                message, self._fragments = self._fragments, None
                self._receive_message(message, self._fragments_are_text)

    def _receive_message(self, payload: bytes | bytearray | memoryview, is_text: bool) -> None:
        assert not isinstance(payload, memoryview), "only frames to be sent can be views"
        if is_text:
            try:
                payload.decode()
            except UnicodeDecodeError:
                if self._protocol.state is OPEN:
                    self._protocol.fail(CloseCode.INVALID_DATA, "invalid UTF-8 in a text message")
                return
        if self._session is not None:
            self._session.receive(payload)

    def _write_protocol(self) -> None:
        """Write what the protocol has to say: the handshake, pongs, the closing handshake."""
        for data in self._protocol.data_to_send():
            if data != SEND_EOF:
                self._transport.write(data)
            else:
                self._end_writing()
        if self._protocol.close_expected():
            self._acceptor.closing.add(self)
            if self._session is not None:
                # One of both sides has said that it ends, so nothing may follow.
                self._acceptor.manager.leave(self._session)

    def _end_writing(self) -> None:
        if self._transport.can_write_eof():
            try:
                self._transport.write_eof()
            except OSError:  # the peer was quicker, and the socket is not connected any more
                self._transport.abort()
        else:
            self._transport.close()

    def _read_if_allowed(self) -> None:
        if not self._is_reading_held and not self._is_writing_held:
            self._transport.resume_reading()
