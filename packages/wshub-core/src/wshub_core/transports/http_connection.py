"""Plain HTTP on a socket of the hub's server: a request that an ASGI application answers.

`h11` parses the request and writes the response (RFC 9112). The socket stays open behind it. The
opening handshake then reads the next request, because it may be for the hub: proxies use one
connection for requests of all kinds.
"""

import asyncio
import contextlib
import re
import socket
from email.utils import formatdate
from time import perf_counter
from typing import Protocol, cast

import h11

from wshub_core.transports.asgi_messages import ASGIApp
from wshub_core.transports.http_exchange import HTTPExchange, log_request, make_scope
from wshub_core.transports.http_reader import HTTPReader
from wshub_core.transports.sockets import ServedSocket, ServerSockets
from wshub_core.transports.writing import end_writing, write

_QUOTE = re.compile(r":? (bytearray\()?b['\"].*", re.DOTALL)
"""The line of the request in an error text of `h11`. It may hold a secret."""

_NO_BUFFER = {"high": 1, "low": 0}
"""Limits with which asyncio says when it has sent everything. With 0 as the high limit, a TLS
transport would always be paused."""


class RequestReader(ServedSocket, Protocol):
    """The protocol of a socket that reads the first line of each request."""

    def data_received(self, data: bytes) -> None:
        """Parse bytes from the socket."""


class HTTPConnection(HTTPReader):
    """A socket from the beginning of a request to the end of its response.

    A request has to arrive within the hub's ``open_timeout``, and the rest of its body without a
    longer pause. A client that takes no bytes of a response for ``write_timeout`` is aborted. The
    bytes of a request are parsed in turns with those of all other sockets.

    Args:
        sockets: The sockets of the server.
        app: The application. Its lifespan is not run.
        transport: asyncio's transport of the socket.
        opening: Reads the requests of the socket, before this one and behind it.
    """

    def __init__(
        self,
        sockets: ServerSockets,
        app: ASGIApp,
        transport: asyncio.Transport,
        opening: RequestReader,
    ) -> None:
        super().__init__(sockets, transport)
        self._app = app
        self._opening = opening
        # The status and the text of the response if the application sends none.
        self._fallback = 500, "Internal Server Error\n"
        self._may_write = asyncio.Event()
        self._may_write.set()
        # The beginning of a response, which is written together with the first part of its body.
        self._unwritten = b""
        # Bytes that the transport held at the last look, while writing is paused.
        self._unsent_bytes = 0
        self._is_lost = False
        # The response has no body, whatever the application sends (RFC 9110 section 9.3.2).
        self._is_head = False

    def open(self, data: bytes) -> None:
        """Take over the socket.

        Args:
            data: The bytes that were read before.
        """
        self._transport.set_protocol(self)
        _limit_silence(self._transport, self._sockets.hub.config.pong_timeout)
        self._sockets.opening_timeouts.discard(self._opening)
        self._sockets.replace(self._opening, self)
        self._sockets.opening_timeouts.add(self)
        self.data_received(data)

    # Called by asyncio.

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the socket, and end the response."""
        self._is_over = self._is_lost = True
        self._may_write.set()
        self._sockets.remove(self)
        self._sockets.writing_timeouts.discard(self)
        if self._exchange is not None:
            self._exchange.note_disconnected()

    def pause_writing(self) -> None:
        """Let the application wait while the kernel takes no bytes."""
        self._may_write.clear()
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._sockets.writing_timeouts.add(self)

    def resume_writing(self) -> None:
        """Let the application write again."""
        self._may_write.set()
        self._sockets.writing_timeouts.discard(self)

    def check_progress(self) -> None:
        """Abort if the peer has taken no bytes for the ``write_timeout``."""
        before, self._unsent_bytes = self._unsent_bytes, self._transport.get_write_buffer_size()
        if self._unsent_bytes < before:
            self._sockets.writing_timeouts.add(self)
        else:
            self.abort()

    # Called by the server.

    def abort(self) -> None:
        """Close the socket at once."""
        self._transport.abort()

    def shut_down(self) -> None:
        """Close the socket, after the response that is under way."""
        self._is_last = True
        if self._exchange is None:
            self.abort()
        else:
            self._fallback = 503, "The server is closing\n"
            self._exchange.note_disconnected()

    # Requests; see `HTTPReader`.

    def _begin(self, request: h11.Request) -> None:
        self._is_head = request.method == b"HEAD"
        self._exchange = HTTPExchange(self, is_head=self._is_head)
        scope = make_scope(request, self._transport, self._sockets.proxies)
        self._sockets.hub.spawn(self._respond(self._exchange, scope))

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Respond to a request that cannot be parsed, unless a response is under way."""
        self._is_last = True
        status, text = error.error_status_hint, _QUOTE.sub("", str(error)) + "\n"
        if self._exchange is not None:
            # The end of the body is unknown, so the application never gets it.
            self._fallback = status, text
            self._exchange.note_disconnected()
        elif self._protocol.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        else:
            self._send_text(status, text)
            self._end()
        self._sockets.note_refusal(self._transport, status, "malformed_request")

    # Responses.

    async def _respond(self, exchange: HTTPExchange, scope: dict[str, object]) -> None:
        started = perf_counter()
        work = self._sockets.hub.callbacks.run("http_app", self._call_app, exchange, scope)
        try:
            if work is not None:
                await work
            self._complete(exchange)
            # A closed transport of uvloop raises an error.
            if not self._transport.is_closing():
                # Until the client has all bytes, the time limit of writing holds, and no other.
                self._transport.set_write_buffer_limits(**_NO_BUFFER)
            await self._may_write.wait()
        except asyncio.CancelledError:
            # The hub closes and does not wait any longer.
            self._transport.abort()
            raise
        self._finish()
        log_request(scope, exchange, perf_counter() - started)

    async def _call_app(self, exchange: HTTPExchange, scope: dict[str, object]) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except OSError:
            # `send` raises one when the client has gone, which is no fault of the application.
            if not self._is_lost:
                raise

    def _complete(self, exchange: HTTPExchange) -> None:
        """Complete the response that the application has left."""
        if self._is_lost:
            return
        if not exchange.is_started:
            try:
                self._send_text(*self._fallback)
                exchange.status = self._fallback[0]
            except h11.LocalProtocolError:  # h11 has refused the beginning of the response
                self._transport.abort()
        elif not exchange.is_complete:
            # The client must not take the part for the whole.
            self._transport.abort()

    def _finish(self) -> None:
        """Go on with the next request of the socket, or close it."""
        self._exchange = None
        if self._is_over or self._transport.is_closing():
            return
        # The rest of a body is not wanted, and may be endless.
        states = self._protocol.our_state, self._protocol.their_state
        if self._is_last or states != (h11.DONE, h11.DONE):
            self._end()
        else:
            self._return_socket()

    def _return_socket(self) -> None:
        """Let the opening handshake read the next request, whose time limit begins."""
        self._is_over = True
        unread = self._protocol.trailing_data[0] + self._unread
        self._sockets.replace(self, self._opening)
        self._sockets.opening_timeouts.add(self._opening)
        self._transport.set_write_buffer_limits()
        self._transport.set_protocol(cast("asyncio.Protocol", self._opening))
        if unread:
            # Reading goes on when these bytes have had their turn.
            self._opening.data_received(unread)
        else:
            self._transport.resume_reading()

    def send_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Write the beginning of a response."""
        names = {name.lower() for name, _ in headers}
        if b"date" not in names:
            headers = [(b"date", formatdate(usegmt=True).encode()), *headers]
        # The rest of an unfinished body is not waited for, so the response ends the connection. A
        # client that does not know this loses its next request.
        if self._is_last or self._protocol.their_state is h11.SEND_BODY:
            headers = [*headers, (b"connection", b"close")]
        # An invalid header raises an error here, and changes nothing.
        response = h11.Response(status_code=status, headers=headers)
        self._unwritten = self._protocol.send(response) or b""

    def send_body(self, data: bytes) -> None:
        """Write a part of the body of a response."""
        self._write(h11.Data(data=data))

    def end_response(self) -> None:
        """Write the end of a response."""
        self._write(h11.EndOfMessage())

    def ask_for_body(self) -> None:
        """Read on; tell a client that waits for permission to send its body that it has it."""
        if self._protocol.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
        if self._is_over or self._transport.is_closing():
            return
        # Each part gets the whole time limit, which does not run while the application is busy.
        self._sockets.opening_timeouts.add(self)
        self._read_on()

    async def wait_writable(self) -> None:
        """Wait until the kernel has taken most of the written bytes.

        Raises:
            ConnectionResetError: The client has gone.
        """
        await self._may_write.wait()
        if self._is_lost:
            raise ConnectionResetError("the client has gone")

    def _send_text(self, status: int, text: str) -> None:
        """Write a whole response."""
        body = text.encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
        ]
        self.send_response(status, headers)
        if not self._is_head:
            self.send_body(body)
        self.end_response()

    def _write(self, event: h11.Event) -> None:
        data = self._unwritten + (self._protocol.send(event) or b"")
        self._unwritten = b""
        if data:
            write(self._transport, data)

    def _end(self) -> None:
        """Close the socket behind the response."""
        self._is_over = True
        self._sockets.opening_timeouts.discard(self)
        self._sockets.closing_timeouts.add(self)
        if self._protocol.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED):
            self._transport.close()
        elif not self._transport.is_closing():
            # Closing a socket with unread bytes would reset it, and the peer could lose the
            # response. The rest is read and dropped until the peer closes.
            end_writing(self._transport)
            self._transport.resume_reading()


def _limit_silence(transport: asyncio.Transport, seconds: float) -> None:
    """Limit the time for which the peer may leave written bytes unconfirmed.

    HTTP has no pings. Without a limit, Linux takes about 15 minutes to notice that the peer of a
    long response has vanished.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only
    if option is not None:
        # A unix socket does not have the option.
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, option, int(seconds * 1_000)
            )
