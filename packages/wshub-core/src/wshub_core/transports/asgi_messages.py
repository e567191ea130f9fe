"""The messages of ASGI 3.0 applications, and their conversions to the HTTP messages of wshub."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

from wshub_core.logs import escape
from wshub_core.values.http import Request, Response

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def read_request(scope: Scope) -> Request:
    """Return the `Request` of an ASGI scope."""
    values: dict[str, list[str]] = {}
    for raw_name, value in scope["headers"]:
        values.setdefault(raw_name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    headers = {name: tuple(each) for name, each in values.items()}
    # `raw_path` is optional in ASGI. It should hold no query; if it does, the query is cut off.
    raw_path: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw_path is None else raw_path.decode("latin-1")
    return Request(
        scope.get("method", "GET"),
        path.partition("?")[0],
        scope["query_string"].decode("latin-1"),
        headers,
        _format_address(scope.get("client")),
    )


def path_below_mount(scope: Scope) -> str:
    """Return the path of a request below the mount point of its application."""
    # Some frameworks leave the mount point in ``path``, others remove it.
    path: str = scope["path"]
    root = mount_point_of(scope)
    if path == root or path.startswith(f"{root}/"):
        return path[len(root) :]
    return path


def mount_point_of(scope: Scope) -> str:
    """Return the path at which an application is mounted, without a slash at the end."""
    root: str = scope.get("root_path", "")
    return root.rstrip("/")


async def is_http(scope: Scope, receive: Receive, send: Send) -> bool:
    """Return True for an HTTP request; refuse a WebSocket.

    Raises:
        RuntimeError: The server offers another protocol, such as ``lifespan``. ASGI servers then go
            on without it.
    """
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        await send({"type": "websocket.close"})
    elif scope["type"] != "http":
        raise RuntimeError(f"this application serves HTTP requests, not {scope['type']!r}")
    return scope["type"] == "http"  # type: ignore[no-any-return]


class BodyTooLargeError(Exception):
    """The body of a request exceeds the limit."""


class ClientGoneError(Exception):
    """The client has gone before the end of its request."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the body of a request.

    Args:
        receive: Receives the body.
        limit: Maximum size, in bytes.

    Raises:
        BodyTooLargeError: The body exceeds the limit.
        ClientGoneError: The client has gone.
    """
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise ClientGoneError
        body += event.get("body", b"")
        if len(body) > limit:
            raise BodyTooLargeError
        if not event.get("more_body", False):
            return bytes(body)


async def send_response(send: Send, kind: str, response: Response) -> None:
    """Send a response.

    Args:
        send: Sends an event to the server.
        kind: First part of the names of the events: ``http`` or ``websocket.http``.
        response: The response.
    """
    headers = dict(response.headers)
    if response.status != 204:  # it has no content (RFC 9110 section 8.6)
        content = {
            "Content-Type": response.content_type,
            "Content-Length": str(len(response.body)),
        }
        headers = content | headers
    await send(
        {
            "type": f"{kind}.response.start",
            "status": response.status,
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in headers.items()
            ],
        }
    )
    await send({"type": f"{kind}.response.body", "body": response.body})


def _format_address(client: Sequence[Any] | None) -> str:
    if client is None:
        return ""
    host, port = client
    # Some servers take the host from a header, which can hold any text.
    host = escape(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def redirect_below_mount(scope: Scope) -> Response:
    """Return the response to a request for the mount point itself.

    The links of a page are relative, so its address must end with a slash. The redirect is relative
    too, because a proxy in front may have removed a part of the path.
    """
    name = quote(mount_point_of(scope).rpartition("/")[2])
    return Response(307, headers={"Location": f"./{name}/"})
