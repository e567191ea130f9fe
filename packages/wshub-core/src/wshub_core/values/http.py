"""The HTTP request that opens a connection, and the answer to one that does not."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Request:
    """The request with which a client knocks.

    Its ``repr`` shows neither query nor headers, which may hold secrets.

    Attributes:
        method: The method, upper case.
        path: The path without the query, as it was sent (percent-encoded).
        query: What follows the question mark, as it was sent; empty for none.
        headers: Every value of each header, in order, by lower-case name.
        remote_address: ``host:port`` of the peer, or the path of a unix socket.
        client_certificate: What the peer's TLS certificate says, as ``SSLSocket.getpeercert``
            returns it; None without TLS, for a peer without a certificate that was verified, and in
            an ASGI application, whose server keeps it.
    """

    method: str
    path: str
    query: str = field(default="", repr=False)
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    remote_address: str = ""
    client_certificate: Mapping[str, Any] | None = field(default=None, repr=False)

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever the case of its name; None for none."""
        values = self.headers.get(name.lower())
        return values[0] if values else None

    def cookie(self, name: str) -> str | None:
        """Return the first value of a cookie, as it was sent (RFC 6265 section 4.2); None for none.

        Only a pair of quotes around the whole value is taken off.
        """
        for header in self.headers.get("cookie", ()):
            for pair in header.split(";"):
                key, equals, value = pair.partition("=")
                if equals and key.strip() == name:
                    value = value.strip()
                    is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
                    return value[1:-1] if is_quoted else value
        return None


@dataclass(frozen=True, slots=True)
class Response:
    """A plain HTTP response, after which the connection ends.

    Attributes:
        status: The status code.
        body: The bytes of the body.
        headers: Header lines beside ``Content-Type``, ``Content-Length`` and ``Date``.
        content_type: The value of ``Content-Type``.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "text/plain; charset=utf-8"


ProcessRequest: TypeAlias = Callable[[Request], Response | Awaitable[Response | None] | None]
"""Answers HTTP requests to other paths than the hub's; None stands for 404. Plain or async."""

METHOD_NOT_ALLOWED = Response(405, b"Method Not Allowed\n", {"Allow": "GET, HEAD"})
"""The answer to a method that a resource does not know (RFC 9110 section 15.5.6)."""

UPGRADE_REQUIRED = Response(426, b"This is a WebSocket endpoint\n", {"Upgrade": "websocket"})
"""The answer to a plain request at the path of a WebSocket (RFC 9110 section 15.5.22)."""
