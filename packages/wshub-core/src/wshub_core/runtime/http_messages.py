"""Between the HTTP messages of `websockets` and those that an application sees."""

import asyncio
from email.utils import formatdate
from http.client import responses

from websockets import http11
from websockets.datastructures import Headers

from wshub_core.values.http import Request, Response


def read_request(request: http11.Request, remote_address: str) -> Request:
    """Return a request as an application sees it."""
    path, _, query = request.path.partition("?")
    headers: dict[str, tuple[str, ...]] = {}
    for name, value in request.headers.raw_items():
        headers[name.lower()] = (*headers.get(name.lower(), ()), value)
    return Request(request.method, path, query, headers, remote_address)


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
