"""The fast path of opening handshakes: an ordinary valid request, read in one step.

Nearly all clients send such a request, in one piece. It is read here, at about a fifth of the cost.
All other requests, valid or not, go to the Sans-I/O layer of `websockets` from their first byte.
"""

import re
import time
from base64 import b64encode
from email.utils import formatdate
from functools import lru_cache
from hashlib import sha1
from http import HTTPStatus
from typing import NamedTuple

from wshub_core.values.http import METHOD_NOT_ALLOWED, UPGRADE_REQUIRED, Request, Response

_MAX_BYTES = 4_096
"""Largest request that is read here. It is below all limits for lines and their number."""

_REQUEST = re.compile(
    rb"GET ([!-~]++) HTTP/1\.1\r\n((?:[-!#$%&'*+.^_`|~0-9A-Za-z]++:[\t -~]*+\r\n){1,100}+)\r\n"
)
"""A request with ASCII characters only: the target, and the lines of the headers."""

_TOKENS = re.compile(r"(?:[-!#$%&'*+.^_`|~0-9A-Za-z]++, ?)*+[-!#$%&'*+.^_`|~0-9A-Za-z]++").fullmatch
"""A list of tokens as clients write it. RFC 9110 section 5.6.1 allows more forms."""

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==").fullmatch
"""A key: 16 bytes in base64 (RFC 6455 section 4.1)."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""The constant in the answer to a key (RFC 6455 section 1.3)."""

_HAS_BODY = Response(HTTPStatus.BAD_REQUEST, b"A WebSocket handshake has no body\n")
_NEEDS_HOST = Response(HTTPStatus.BAD_REQUEST, b"A request has one Host header\n")

_NOT_READ_HERE = ("content-length", "transfer-encoding")


class Handshake(NamedTuple):
    """A valid opening handshake (RFC 6455 section 4.2.1).

    Attributes:
        target: The path and the query.
        headers: The values of each header, by the header's name in lower case.
        end: Index behind the request.
    """

    target: str
    headers: dict[str, tuple[str, ...]]
    end: int

    @property
    def offers_extensions(self) -> bool:
        """True if the client offers extensions."""
        return "sec-websocket-extensions" in self.headers

    def accept(self, subprotocol: str | None) -> bytes:
        """Return the response that accepts the WebSocket, without extensions.

        Args:
            subprotocol: The selected subprotocol, or None.
        """
        (key,) = self.headers["sec-websocket-key"]
        digest = sha1(key.encode() + _GUID, usedforsecurity=False).digest()
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            f"Date: {_format_date(int(time.time()))}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {b64encode(digest).decode()}",
        ]
        if subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        return "\r\n".join([*lines, "", ""]).encode()


def read_handshake(data: bytes) -> Handshake | None:
    """Read an opening handshake.

    Args:
        data: The first bytes of the client.

    Returns:
        None for any request that is incomplete, invalid, unusual, or no handshake.
    """
    request = _REQUEST.match(data, 0, _MAX_BYTES)
    if request is None:
        return None
    target, lines = request.groups()
    headers: dict[str, tuple[str, ...]] = {}
    for line in lines.decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.lower()
        headers[name] = (*headers.get(name, ()), value.strip(" \t"))
    if not _is_handshake(headers):
        return None
    return Handshake(target.decode("ascii"), headers, request.end())


def _is_handshake(headers: dict[str, tuple[str, ...]]) -> bool:
    match headers:
        case {
            "upgrade": (upgrade,),
            "connection": (connection,),
            "sec-websocket-key": (key,),
            "sec-websocket-version": ("13",),
        } if upgrade.lower() == "websocket" and _KEY(key) and _TOKENS(connection):
            options = connection.lower().replace(" ", "").split(",")
        case _:
            return False
    return (
        "upgrade" in options
        and not any(name in headers for name in _NOT_READ_HERE)
        and len(headers.get("origin", ())) <= 1
        and all(_TOKENS(each) for each in headers.get("sec-websocket-protocol", ()))
    )


def check_request(request: Request, *, has_body: bool) -> Response | None:
    """Return the response to a request that cannot be a handshake; None for all others.

    Args:
        request: The request.
        has_body: Whether the request has a body.
    """
    if request.method == "HEAD":
        return UPGRADE_REQUIRED
    if request.method != "GET":
        return METHOD_NOT_ALLOWED
    if has_body:
        return _HAS_BODY
    # Another program could go by another header than the check of the origin does.
    return None if len(request.headers.get("host", ())) == 1 else _NEEDS_HOST


@lru_cache(maxsize=1)
def _format_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
