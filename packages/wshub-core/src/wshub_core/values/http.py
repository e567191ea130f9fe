"""HTTP requests to a hub, and plain HTTP responses."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request, usually the opening handshake of a WebSocket.

    The ``repr`` shows neither the query nor the headers, because they may contain secrets.

    Attributes:
        method: The method, in upper case.
        path: The path without the query, percent-encoded as the client sent it.
        query: The query without the question mark, as the client sent it; empty if the URL has
            none.
        headers: The values of each header, in order, by the header's name in lower case.
        remote_address: ``host:port`` of the peer; usually empty for a unix socket. Behind a proxy
            in ``HubConfig.trusted_proxies``, the address of the client, with the port 0 if the
            proxy does not add it.
        client_certificate: The peer's verified TLS certificate, as ``SSLSocket.getpeercert``
            returns it. None without TLS, without a verified certificate, and in ASGI applications,
            because ASGI servers do not pass the certificate on.
    """

    method: str
    path: str
    query: str = field(default="", repr=False)
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    remote_address: str = ""
    client_certificate: Mapping[str, Any] | None = field(default=None, repr=False)

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None. The name is case-insensitive."""
        values = self.headers.get(name.lower())
        return values[0] if values else None

    def cookie(self, name: str) -> str | None:
        """Return the first value of a cookie, or None (RFC 6265 section 4.2).

        The value is not decoded. Only a pair of quotes around the whole value is removed.
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
    """A plain HTTP response. The server closes the network connection after it.

    Attributes:
        status: The status code.
        body: The body.
        headers: Headers in addition to ``Content-Type``, ``Content-Length`` and ``Date``.
        content_type: The value of ``Content-Type``.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "text/plain; charset=utf-8"


class DrainingResponse(Response):
    """The refusal of a hub that is being drained.

    Every client gets it as HTTP, also one that asks for close codes: a proxy understands the
    status, and passes the request on to another hub.
    """

    __slots__ = ()


ProcessRequest: TypeAlias = Callable[[Request], Response | Awaitable[Response | None] | None]
"""A function that responds to HTTP requests for other paths than the hub's; plain or async.

If it returns None, the response is 404."""

NOT_FOUND = Response(404, b"Not Found\n")
"""The response to a request for a path that nothing serves."""

METHOD_NOT_ALLOWED = Response(405, b"Method Not Allowed\n", {"Allow": "GET, HEAD"})
"""The response to a method that a resource does not support (RFC 9110 section 15.5.6)."""

UPGRADE_REQUIRED = Response(426, b"This is a WebSocket endpoint\n", {"Upgrade": "websocket"})
"""The response to a plain request at the path of a WebSocket (RFC 9110 section 15.5.22)."""
