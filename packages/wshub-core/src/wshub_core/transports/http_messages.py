"""Between the HTTP messages of `websockets` and those that an application sees."""

import asyncio
import re
from email.utils import formatdate
from http.client import responses

from websockets import http11
from websockets.datastructures import Headers

from wshub_core.values.http import Request, Response

_ABSOLUTE_FORM = re.compile(r"https?://([^/]*)(/.*)?", re.IGNORECASE)


def read_request(request: http11.Request, transport: asyncio.Transport) -> Request:
    """Return a request as an application sees it.

    Args:
        request: The request.
        transport: The socket that it came from.
    """
    target, _, query = request.path.partition("?")
    values: dict[str, list[str]] = {}
    for name, value in request.headers.raw_items():
        values.setdefault(name.lower(), []).append(value)
    headers = {name: tuple(each) for name, each in values.items()}
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is not None:
        # The target decides, whatever the Host header says (RFC 9112 section 3.2.2).
        headers["host"] = (absolute[1],)
        target = absolute[2] or "/"
    return Request(
        request.method,
        target,
        query,
        headers,
        format_address(transport),
        transport.get_extra_info("peercert") or None,
    )


def write_response(response: Response, *, with_body: bool) -> http11.Response:
    """Return a response as it goes out; without the body for an answer to HEAD.

    The connection ends after it, because the Sans-I/O layer reads one request.
    """
    headers = Headers(
        {
            "Date": formatdate(usegmt=True),
            "Connection": "close",
            "Content-Type": response.content_type,
            "Content-Length": str(len(response.body)),
            **response.headers,
        }
    )
    phrase = responses.get(response.status, "")
    return http11.Response(response.status, phrase, headers, response.body if with_body else b"")


def format_address(transport: asyncio.Transport) -> str:
    """Return the peer's ``host:port``; empty for a unix socket."""
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        host, port = peer[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(peer or "")
