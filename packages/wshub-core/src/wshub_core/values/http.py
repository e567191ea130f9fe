"""The HTTP request that opens a connection, and the answer to one that does not."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """The request with which a client knocks.

    Attributes:
        method: The method, upper case.
        path: The path without the query, as it was sent (percent-encoded).
        query: What follows the question mark, as it was sent; empty for none.
        headers: Every value of each header, in order, by lower-case name.
        remote_address: ``host:port`` of the peer, or the path of a unix socket.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remote_address: str = ""

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever the case of its name; None for none."""
        values = self.headers.get(name.lower())
        return values[0] if values else None


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
