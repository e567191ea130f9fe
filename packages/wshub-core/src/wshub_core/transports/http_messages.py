"""Conversions between the HTTP messages of `websockets` and those of wshub."""

import asyncio
import re
from email.utils import formatdate
from http.client import responses

from websockets import http11
from websockets.datastructures import Headers

from wshub_core.values.http import Request, Response
from wshub_core.values.trusted_proxies import TrustedProxies

_ABSOLUTE_FORM = re.compile(r"https?://([^/]*)(/.*)?", re.IGNORECASE)


def read_request(
    request: http11.Request, transport: asyncio.Transport, proxies: TrustedProxies
) -> Request:
    """Return the `Request` for the application.

    Args:
        request: The request as parsed by `websockets`.
        transport: The socket.
        proxies: Finds the address of the client.
    """
    values: dict[str, list[str]] = {}
    for name, value in request.headers.raw_items():
        values.setdefault(name.lower(), []).append(value)
    headers = {name: tuple(each) for name, each in values.items()}
    return make_request(request.method, request.path, headers, transport, proxies)


def make_request(
    method: str,
    target: str,
    headers: dict[str, tuple[str, ...]],
    transport: asyncio.Transport,
    proxies: TrustedProxies,
) -> Request:
    """Return the `Request` for the application.

    Args:
        method: The method.
        target: The target in the request line (RFC 9112 section 3.2).
        headers: The values of each header, by the header's name in lower case.
        transport: The socket.
        proxies: Finds the address of the client.
    """
    target, _, query = target.partition("?")
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is not None:
        # A target in absolute form replaces the Host header (RFC 9112 section 3.2.2).
        headers["host"] = (absolute[1],)
        target = absolute[2] or "/"
    return Request(
        method,
        target,
        query,
        headers,
        proxies.find_client(format_address(transport), headers.get("x-forwarded-for", ())),
        transport.get_extra_info("peercert") or None,
    )


def write_response(response: Response, *, with_body: bool) -> http11.Response:
    """Return a response to be sent by `websockets`.

    The response ends the connection, because the Sans-I/O layer reads one request.

    Args:
        response: The response.
        with_body: False for the response to HEAD, which has the headers of the body alone.
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
    # An application may use a status that has no registered phrase.
    phrase = responses.get(response.status, "")
    return http11.Response(response.status, phrase, headers, response.body if with_body else b"")


def format_address(transport: asyncio.Transport) -> str:
    """Return the peer's ``host:port``; empty for a unix socket."""
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        host, port = peer[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(peer or "")
