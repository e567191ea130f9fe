"""The hub inside an ASGI application: Starlette, FastAPI, Litestar, Django (ASGI 3.0).

The application's server speaks HTTP and WebSocket, pings, and closes; here its events become
what a `Transport` does. Order, bounds and policies are the hub's own, as everywhere.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
from typing import Any, TypeAlias
from urllib.parse import quote

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.running_hub import RunningHub
from wshub_core.logs import get_logger
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.transports.reading import TURN_SECONDS
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import CloseCode, DisconnectCause
from wshub_core.values.errors import HubClosedError, HubNotStartedError
from wshub_core.values.http import METHOD_NOT_ALLOWED, UPGRADE_REQUIRED, Request, Response
from wshub_core.values.subprotocols import refusal_as_close, select_subprotocol

logger = get_logger("wshub.asgi")

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]

_NO_CODES = (None, 1005, 1006)
"""What servers report when there was no close frame, or none with a code; they do not tell which.
"""

_MAX_AHEAD_BYTES = 65_536
"""How many bytes of messages are taken from the server while the hub does not read."""

_NOT_RUNNING = Response(503, b"Hub is not running\n")


class HubApp:
    """An ASGI application that connects its WebSockets to a hub; `Hub.asgi` makes one.

    Every path is the hub's, because the application that mounts it decides about paths. As the
    outermost application it also starts and closes the hub, with the server's lifespan.

    Args:
        get_hub: Returns the running hub, or raises if it is not running.
        lifespan: Starts and closes the hub.
    """

    def __init__(
        self, get_hub: Callable[[], RunningHub], lifespan: AbstractAsyncContextManager[object]
    ) -> None:
        self._get_hub = get_hub
        self._lifespan = lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        match scope["type"]:
            case "websocket":
                await self._serve_websocket(scope, receive, send)
            case "http":
                await send_response(send, "http", await self._refuse_http(scope))
            case "lifespan":
                await self._live(receive, send)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            hub = self._get_hub()
        except (HubNotStartedError, HubClosedError) as error:
            logger.error("a client was refused: %s", error)
            await _refuse_websocket(scope, send, _NOT_RUNNING)
            return
        request = read_request(scope)
        context = copy_context()
        # In a task of its own, because the context of the server's task cannot be named.
        admitting = hub.spawn(hub.admission.admit(request, context), context)
        try:
            await asyncio.wait({admitting})
        finally:
            admitting.cancel()
        # A hub that is closed ends it.
        identity = _NOT_RUNNING if admitting.cancelled() else admitting.result()
        if isinstance(identity, Response):
            close = refusal_as_close(request, identity)
            if close is None:
                await _refuse_websocket(scope, send, identity)
            else:
                await _accept(request, send)
                await send({"type": "websocket.close", "code": close[0], "reason": close[1]})
            return
        await _accept(request, send)
        # Accepting takes its time, in which the hub may have been closed, or filled up.
        if hub.admission.check_room() is not None:
            await send({"type": "websocket.close", "code": CloseCode.TRY_AGAIN_LATER})
            return
        transport = ASGITransport(hub, receive, send)
        await transport.run(request.remote_address, identity, context)

    async def _refuse_http(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return METHOD_NOT_ALLOWED
        try:
            identity = await self._get_hub().admission.admit(read_request(scope), copy_context())
        except (HubNotStartedError, HubClosedError):
            return _NOT_RUNNING
        return identity if isinstance(identity, Response) else UPGRADE_REQUIRED

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        async with self._lifespan:
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        await send({"type": "lifespan.shutdown.complete"})


class ASGITransport:
    """One WebSocket of an ASGI server.

    What is sent goes through one task, because ASGI's ``send`` waits for the client; what comes is
    read by the task in which the server has called the application.
    """

    def __init__(self, hub: RunningHub, receive: Receive, send: Send) -> None:
        self._hub = hub
        self._receive = receive
        self._send = send
        self._connection: ServerConnection | None = None
        self._unsent: deque[PreparedMessage | tuple[int, str]] = deque()
        self._unsent_bytes = 0
        self._has_unsent = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        # What the server has given while the hub did not read.
        self._ahead: deque[Event] = deque()
        self._ahead_bytes = 0
        self._receiving: asyncio.Future[Event] | None = None
        self._is_gone = False
        self._is_over = False
        self._time_limit = asyncio.timeout(None)
        self._ending: tuple[DisconnectCause, int, str] = (DisconnectCause.LOST, 1006, "")

    async def run(self, remote_address: str, identity: AuthResult, context: Context) -> None:
        """Serve the connection until it ends."""
        with contextlib.suppress(TimeoutError):
            async with self._time_limit:
                connection = self._hub.connect(self, remote_address, identity, context)
                self._connection = connection
                writing = asyncio.create_task(self._write_all(connection))
                try:
                    await self._read_all(connection)
                finally:
                    self._is_over = True
                    writing.cancel()
                    if self._receiving is not None:
                        self._receiving.cancel()
                    self._hub.lifecycle.disconnect(connection, *self._ending)

    async def _read_all(self, connection: ServerConnection) -> None:
        limit = self._hub.config.max_message_bytes
        loop = asyncio.get_running_loop()
        turn_end = loop.time() + TURN_SECONDS
        while True:
            if loop.time() >= turn_end:
                # What a server has read already it gives without a pause.
                await asyncio.sleep(0)
                turn_end = loop.time() + TURN_SECONDS
            event = await self._next_event()
            if event["type"] == "websocket.disconnect":
                code, reason = event.get("code"), event.get("reason") or ""
                if code not in _NO_CODES and self._ending[0] is DisconnectCause.LOST:
                    self._ending = DisconnectCause.CLIENT_CLOSED, code, reason
                return
            if self._ending[0] is DisconnectCause.PROTOCOL_ERROR:
                continue  # it is being closed, and has nothing more to say
            payload = _payload_of(event)
            if len(payload) > limit:
                self._ending = DisconnectCause.PROTOCOL_ERROR, CloseCode.MESSAGE_TOO_BIG, ""
                self._hub.lifecycle.leave(connection)
                self.close(CloseCode.MESSAGE_TOO_BIG, "")
                continue
            connection.note_heard(self._hub.clock.time())
            connection.receive(payload)

    async def _next_event(self) -> Event:
        """Return the next event, when the hub reads or the client has gone."""
        while not self._may_read.is_set() and not self._is_gone:
            await self._read_ahead()
        if self._ahead:
            event = self._ahead.popleft()
            self._ahead_bytes -= len(_payload_of(event))
            return event
        if self._receiving is not None:
            receiving, self._receiving = self._receiving, None
            return await receiving
        return await self._receive()

    async def _read_ahead(self) -> None:
        """Take events while the hub does not read, so that the end of the client is noticed."""
        if self._receiving is None and self._ahead_bytes <= _MAX_AHEAD_BYTES:
            self._receiving = asyncio.ensure_future(self._receive())
        allowed = asyncio.ensure_future(self._may_read.wait())
        waiting: set[asyncio.Future[Any]] = {allowed}
        if self._receiving is not None:
            waiting.add(self._receiving)
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            allowed.cancel()
        if self._receiving is not None and self._receiving.done():
            event = self._receiving.result()
            self._receiving = None
            self._ahead.append(event)
            self._ahead_bytes += len(_payload_of(event))
            self._is_gone = event["type"] == "websocket.disconnect"

    async def _write_all(self, connection: ServerConnection) -> None:
        while True:
            await self._has_unsent.wait()
            while self._unsent:
                item = self._unsent.popleft()
                try:
                    await self._write(item)
                except Exception as error:
                    # The server has found out first that the client is gone; how, is its affair.
                    logger.debug("cannot send any more: %r", error)
                    self.abort()
                    return
                if isinstance(item, tuple):
                    return
                self._unsent_bytes -= item.size
            self._has_unsent.clear()
            self._hub.lifecycle.stalled_writes.resume_writing(connection)

    async def _write(self, item: PreparedMessage | tuple[int, str]) -> None:
        if isinstance(item, PreparedMessage):
            await self._send({"type": "websocket.send", "text": item.payload.decode()})
        else:
            code, reason = item
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    # What sessions call: the Transport protocol.

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        """Write messages when the client takes them; see `Transport.send`."""
        self._unsent.extend(messages)
        self._unsent_bytes += sum(message.size for message in messages)
        self._has_unsent.set()
        # A callback of the greeting can send and close, before there is anything to pause.
        if self._connection is not None:
            self._hub.lifecycle.stalled_writes.pause_writing(self._connection)
        return self._unsent_bytes

    def unsent_bytes(self) -> int:
        """Return what waits for the client; see `Transport.unsent_bytes`."""
        return self._unsent_bytes

    def ping(self) -> None:
        """Take the server's word that the client is alive, because pinging is the server's part."""
        if self._connection is not None:
            self._connection.note_heard(self._hub.clock.time())

    def close(self, code: int, reason: str) -> None:
        """Close behind all that was sent; see `Transport.close`."""
        self._unsent.append((code, reason))
        self._has_unsent.set()
        self._end_within(self._hub.config.close_timeout)

    def abort(self) -> None:
        """End at once; see `Transport.abort`."""
        self._end_within(0)

    def pause_reading(self) -> None:
        """Take nothing more from the server; see `Transport.pause_reading`."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Read again; see `Transport.resume_reading`."""
        self._may_read.set()

    def _end_within(self, seconds: float) -> None:
        if not self._is_over and not self._time_limit.expired():
            self._time_limit.reschedule(asyncio.get_running_loop().time() + seconds)


def read_request(scope: Scope) -> Request:
    """Return the request of an ASGI scope as an application sees it."""
    values: dict[str, list[str]] = {}
    for raw_name, value in scope["headers"]:
        values.setdefault(raw_name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    headers = {name: tuple(each) for name, each in values.items()}
    raw_path: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw_path is None else raw_path.decode("latin-1")
    return Request(
        scope.get("method", "GET"),
        path.partition("?")[0],
        scope["query_string"].decode("latin-1"),
        headers,
        _format_address(scope.get("client")),
    )


def _payload_of(event: Event) -> bytes:
    """Return the message of an event; empty for one without."""
    text: str | None = event.get("text")
    payload: bytes = event.get("bytes") or b""
    return payload if text is None else text.encode()


def _format_address(client: Sequence[Any] | None) -> str:
    if client is None:
        return ""
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _accept(request: Request, send: Send) -> None:
    await send({"type": "websocket.accept", "subprotocol": select_subprotocol(request)})


async def _refuse_websocket(scope: Scope, send: Send, response: Response) -> None:
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await send_response(send, "websocket.http", response)
    else:
        # All that such a server can say is 403.
        await send({"type": "websocket.close"})


async def send_response(send: Send, kind: str, response: Response) -> None:
    """Send a response; ``kind`` is how the names of its events begin."""
    headers = {
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        **response.headers,
    }
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
