"""The admin view as an ASGI 3.0 application."""

import hmac
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.resources import files
from urllib.parse import parse_qs

import msgspec

from wshub_core.admin.snapshot import take_snapshot
from wshub_core.admin.streaming import send_json, stream_traffic
from wshub_core.admin.traffic import Traffic
from wshub_core.hub import Hub
from wshub_core.transports.asgi_messages import (
    BodyTooLargeError,
    ClientGoneError,
    Receive,
    Scope,
    Send,
    is_http,
    path_below_mount,
    read_body,
    read_request,
    redirect_below_mount,
    send_response,
)
from wshub_core.values.connection import Connection
from wshub_core.values.errors import InvalidConfigError, WSHubError
from wshub_core.values.http import METHOD_NOT_ALLOWED, Request, Response
from wshub_core.values.messages import JSON, Message, MessageType, encode_message

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/admin.css": ("admin.css", "text/css; charset=utf-8"),
    "/admin.js": ("admin.js", "text/javascript; charset=utf-8"),
    "/tables.js": ("tables.js", "text/javascript; charset=utf-8"),
    "/tracer.js": ("tracer.js", "text/javascript; charset=utf-8"),
}

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}

_MIN_KEY_LENGTH = 16

_MAX_BODY_BYTES = 1_048_576

_WRONG_METHOD = Response(405, b"Method Not Allowed\n", {**_HEADERS, "Allow": "GET, POST"})
_TOO_DEEP = Response(400, b"the data is nested too deeply\n", _HEADERS)
_NOT_FOUND = Response(404, b"Not Found\n", _HEADERS)
_UNAUTHORIZED = Response(
    401, b"The admin key is missing or wrong\n", {**_HEADERS, "WWW-Authenticate": "Bearer"}
)


class _Publish(msgspec.Struct, forbid_unknown_fields=True):
    channel: str
    data: JSON = None
    type: str = MessageType.EVENT


class _Disconnect(msgspec.Struct, forbid_unknown_fields=True):
    connection: int


def validate_admin_key(key: str) -> None:
    """Raise an error if a key is too short, or has characters that a header cannot carry.

    Raises:
        InvalidConfigError: The key is invalid.
    """
    if len(key.strip()) < _MIN_KEY_LENGTH:
        raise InvalidConfigError(f"the admin key needs at least {_MIN_KEY_LENGTH} characters")
    if not (key.strip().isascii() and key.strip().isprintable()):
        raise InvalidConfigError("the admin key must consist of printable characters of ASCII")


class AdminApp:
    """An ASGI application with the admin view of a hub.

    It serves a page, and the requests of the page, which carry the key in the header
    ``Authorization: Bearer <key>``. Browsers never add this header by themselves, so a foreign page
    cannot use the view.

    Args:
        hub: The hub.
        key: The key, at least 16 printable characters of ASCII. Everybody who knows it can read all
            messages, publish, and close connections.

    Raises:
        InvalidConfigError: The key is invalid.
    """

    def __init__(self, hub: Hub, key: str) -> None:
        validate_admin_key(key)
        self._hub = hub
        # A key that was read from a file often has a line end, which the page does not send.
        self._key = key.strip().encode()
        folder = files("wshub_core") / "admin" / "files"
        self._pages = {
            path: Response(200, (folder / name).read_bytes(), _HEADERS, content_type)
            for path, (name, content_type) in _FILES.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an HTTP request, as ASGI specifies."""
        if not await is_http(scope, receive, send):
            return
        request = read_request(scope)
        path = path_below_mount(scope)
        if path == "":
            await send_response(send, "http", redirect_below_mount(scope))
            return
        if path in self._pages:
            is_read = request.method in ("GET", "HEAD")
            await send_response(send, "http", self._pages[path] if is_read else METHOD_NOT_ALLOWED)
            return
        if not self._is_authorized(request):
            await send_response(send, "http", _UNAUTHORIZED)
            return
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        match request.method, path:
            case "GET" | "HEAD", "/state":
                state = await take_snapshot(self._hub, query.get("search", ""))
                await send_json(send, state, _HEADERS)
            case "GET", "/trace":
                await self._trace(query, receive, send)
            case "POST", "/publish":
                await self._run(receive, send, self._publish)
            case "POST", "/disconnect":
                await self._run(receive, send, self._disconnect)
            case _, "/state" | "/trace" | "/publish" | "/disconnect":
                await send_response(send, "http", _WRONG_METHOD)
            case _:
                await send_response(send, "http", _NOT_FOUND)

    def _is_authorized(self, request: Request) -> bool:
        scheme, _, key = (request.header("authorization") or "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self._key)

    # Commands.

    async def _run(self, receive: Receive, send: Send, command: Callable[[bytes], None]) -> None:
        try:
            command(await read_body(receive, _MAX_BODY_BYTES))
            response = Response(204, headers=_HEADERS)
        except ClientGoneError:
            return
        except BodyTooLargeError:
            response = Response(400, b"the body is too large\n", _HEADERS)
        except RecursionError:
            response = _TOO_DEEP
        except (WSHubError, msgspec.MsgspecError, UnicodeDecodeError, TypeError) as exc:
            response = Response(400, f"{exc}\n".encode(), _HEADERS)
        await send_response(send, "http", response)

    def _publish(self, body: bytes) -> None:
        command = msgspec.json.decode(body, type=_Publish)
        self._hub.publish(command.channel, Message(type=command.type, data=command.data))

    def _disconnect(self, body: bytes) -> None:
        command = msgspec.json.decode(body, type=_Disconnect)
        reason = "closed by an administrator"
        if not self._hub.disconnect(command.connection, reason=reason):
            raise msgspec.ValidationError(f"there is no connection {command.connection} any more")

    # The tracer.

    async def _trace(self, query: dict[str, str], receive: Receive, send: Send) -> None:
        """Send the frames of a channel, a user or a connection, as lines of JSON."""
        traffic = Traffic()
        tracing: AbstractContextManager[None]
        match query:
            case {"channel": channel}:
                tracing = self._trace_channel(channel, traffic)
            case {"user": user_id}:
                tracing = self._trace_connections(lambda each: each.user_id == user_id, traffic)
            case {"connection": number}:
                tracing = self._trace_connections(lambda each: str(each.id) == number, traffic)
            case _:
                text = b"trace a channel, a user or a connection\n"
                await send_response(send, "http", Response(400, text, _HEADERS))
                return
        # The stream ends with the hub, whose end would otherwise wait for it.
        self._hub.add_shutdown_hook(traffic.end)
        try:
            with tracing:
                await stream_traffic(traffic, receive, send, _HEADERS)
        finally:
            self._hub.remove_shutdown_hook(traffic.end)

    @contextmanager
    def _trace_channel(self, channel: str, traffic: Traffic) -> Iterator[None]:
        def listen(published_to: str, message: Message) -> None:
            if published_to == channel:
                traffic.add("published", encode_message(message))

        self._hub.add_publish_listener(listen)
        try:
            yield
        finally:
            self._hub.remove_publish_listener(listen)

    def _trace_connections(
        self, matches: Callable[[Connection], bool], traffic: Traffic
    ) -> AbstractContextManager[None]:
        return self._hub.watch_frames(
            matches,
            lambda connection, direction, payload: traffic.add(
                direction, payload, connection.id, connection.user_id
            ),
        )
