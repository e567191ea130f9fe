"""One HTTP request and its response, as an ASGI application sees them."""

import asyncio
from typing import Any, Protocol
from urllib.parse import unquote

import h11

from wshub_core.logs import get_logger
from wshub_core.transports.asgi_messages import Event
from wshub_core.transports.http_messages import format_address
from wshub_core.values.trusted_proxies import TrustedProxies

access_logger = get_logger("wshub.access")

_FORWARDED = b"x-forwarded-for"

_MAX_LOGGED = 200
"""Characters of a path in the log."""


class ExchangeOwner(Protocol):
    """The parts of a connection that an exchange uses."""

    def send_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Write the beginning of a response."""

    def send_body(self, data: bytes) -> None:
        """Write a part of the body of a response."""

    def end_response(self) -> None:
        """Write the end of a response."""

    def ask_for_body(self) -> None:
        """Read on."""

    async def wait_writable(self) -> None:
        """Wait until the kernel has taken most of the written bytes."""


class HTTPExchange:
    """The ``receive`` and ``send`` of one request (ASGI 3.0, "HTTP").

    Args:
        owner: The connection.
        is_head: Whether the method is HEAD.

    Attributes:
        status: The status of the response; 0 before its beginning.
        sent_bytes: The number of bytes of the body that were written.
        is_complete: Whether the response has ended.
    """

    def __init__(self, owner: ExchangeOwner, *, is_head: bool) -> None:
        self._owner = owner
        self._is_head = is_head
        self._body = bytearray()
        self._has_ended_body = False
        # The application has received the end of the body.
        self._has_read_body = False
        self._is_disconnected = False
        # Set while `receive` has something to return.
        self._changed = asyncio.Event()
        self.status = 0
        self.sent_bytes = 0
        self.is_complete = False

    # Called by the connection.

    @property
    def is_started(self) -> bool:
        """True when the response has begun."""
        return self.status != 0

    @property
    def unread_bytes(self) -> int:
        """Number of bytes of the body that the application has not received."""
        return len(self._body)

    def add_body(self, data: bytes) -> None:
        """Add a part of the body."""
        self._body += data
        self._changed.set()

    def end_body(self) -> None:
        """Note the end of the body."""
        self._has_ended_body = True
        self._changed.set()

    def note_disconnected(self) -> None:
        """Note that the client has gone, or that the server closes."""
        self._is_disconnected = True
        self._changed.set()

    # Called by the application.

    async def receive(self) -> Event:
        """Return a part of the body, or wait for the end of the client."""
        while True:
            if not self._has_read_body and (self._body or self._has_ended_body):
                return self._next_body()
            if self._is_disconnected or self.is_complete:
                return {"type": "http.disconnect"}
            if not self._has_read_body:
                self._owner.ask_for_body()
            self._changed.clear()
            await self._changed.wait()

    def _next_body(self) -> Event:
        body = bytes(self._body)
        self._body.clear()
        self._has_read_body = self._has_ended_body
        return {"type": "http.request", "body": body, "more_body": not self._has_read_body}

    async def send(self, event: Event) -> None:
        """Write a part of the response; wait while the client takes no bytes.

        Raises:
            OSError: The client has gone (ASGI 2.4).
            RuntimeError: The event does not fit behind those before.
        """
        if event["type"] == "http.response.start":
            self._owner.send_response(event["status"], list(event.get("headers", ())))
            self.status = event["status"]
            return
        if event["type"] != "http.response.body" or not self.is_started or self.is_complete:
            raise RuntimeError(f"the response does not go on with an event {event['type']!r}")
        # The response to HEAD has the headers alone (RFC 9110 section 9.3.2).
        if (body := event.get("body")) and not self._is_head:
            self._owner.send_body(body)
            self.sent_bytes += len(body)
        if not event.get("more_body"):
            self._owner.end_response()
            self.is_complete = True
            # Another task of the application may wait in `receive`.
            self._changed.set()
        await self._owner.wait_writable()


def make_scope(
    request: h11.Request, transport: asyncio.Transport, proxies: TrustedProxies
) -> dict[str, Any]:
    """Return the scope of a request (ASGI 3.0, "HTTP connection scope").

    Args:
        request: The request.
        transport: The socket.
        proxies: Finds the address of the client.
    """
    forwarded = [value.decode("latin-1") for name, value in request.headers if name == _FORWARDED]
    client = proxies.find_client(format_address(transport), forwarded)
    target, _, query = request.target.partition(b"?")
    headers = list(request.headers)
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        # The authority of a target in absolute form counts, and not the header (RFC 9112 section
        # 3.2.2).
        authority, _, path = rest.partition(b"/")
        target = b"/" + path
        headers = [(b"host", authority), *(each for each in headers if each[0] != b"host")]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": request.http_version.decode(),
        "method": request.method.decode().upper(),
        "scheme": "http" if transport.get_extra_info("sslcontext") is None else "https",
        "path": unquote(target.decode("ascii")),
        "raw_path": target,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": _split_address(client),
        "server": _find_own_address(transport),
    }


def log_request(scope: dict[str, Any], exchange: HTTPExchange, seconds: float) -> None:
    """Write the line of a request into the access log, without its query."""
    host, port = scope["client"] or ("", "")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}".rstrip(":")
    fields = {"method": scope["method"], "path": scope["raw_path"].decode("ascii")[:_MAX_LOGGED]}
    fields |= {"address": address or "a local socket", "status": exchange.status}
    line = "%(address)s %(method)s %(path)r: %(status)d, %(bytes)d bytes in %(duration).3f s"
    fields |= {"bytes": exchange.sent_bytes, "duration": round(seconds, 6)}
    access_logger.debug(line, fields, extra=fields)


def _split_address(address: str) -> tuple[str, int] | None:
    """Return the parts of ``host:port``; None for a unix socket."""
    host, _, port = address.rpartition(":")
    # The client of a unix socket may have a path with a colon.
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else None


def _find_own_address(transport: asyncio.Transport) -> tuple[str, int] | None:
    address = transport.get_extra_info("sockname")
    return (address[0], address[1]) if isinstance(address, tuple) else None
