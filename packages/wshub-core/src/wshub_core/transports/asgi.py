"""The ASGI transport: a hub inside an ASGI 3.0 application (Starlette, FastAPI, Litestar, Django).

The application's server handles the HTTP and WebSocket protocols and sends the pings. This module
maps ASGI events to the methods of `Transport`. The order of messages, the bounds and the policies
are those of the hub, as with the native transport.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from time import monotonic
from typing import Any

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.running_hub import RunningHub
from wshub_core.logs import get_logger
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.transports.asgi_messages import (
    Event,
    Receive,
    Scope,
    Send,
    read_request,
    send_response,
)
from wshub_core.transports.asgi_transport import NOT_RUNNING, ASGITransport, admit
from wshub_core.transports.reading import TURN_SECONDS
from wshub_core.values.closing import CloseCode, DisconnectCause
from wshub_core.values.errors import HubClosedError, HubNotStartedError
from wshub_core.values.http import METHOD_NOT_ALLOWED, UPGRADE_REQUIRED, Request, Response
from wshub_core.values.subprotocols import refusal_as_close, select_subprotocol

logger = get_logger("wshub.asgi")

_NO_CODES = (None, 1005, 1006)
"""Codes that servers report both without a close frame and for a close frame without a code."""

_MAX_BUFFERED_BYTES = 65_536
"""Bytes of buffered messages above which no more events are received while reading is paused."""


class HubApp:
    """An ASGI application that connects its WebSockets to a hub; made by `Hub.asgi`.

    It serves every path, because the application that mounts it chooses the path. As the outermost
    application it also starts and closes the hub, in the server's lifespan.

    Args:
        get_hub: Returns the running hub; raises an error if the hub is not running.
        lifespan: The context manager that starts and closes the hub.
    """

    def __init__(
        self, get_hub: Callable[[], RunningHub], lifespan: AbstractAsyncContextManager[object]
    ) -> None:
        self._get_hub = get_hub
        self._lifespan = lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: a WebSocket, an HTTP request, or the lifespan."""
        match scope["type"]:
            case "websocket":
                await self._serve_websocket(scope, receive, send)
            case "http":
                await send_response(send, "http", await self._refuse_http(scope))
            case "lifespan":
                await self._run_lifespan(receive, send)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            hub = self._get_hub()
        except (HubNotStartedError, HubClosedError) as error:
            logger.error("a client was refused: %s", error)
            await _refuse_websocket(scope, send, NOT_RUNNING)
            return
        request = read_request(scope)
        identity, context = await admit(hub, request)
        if isinstance(identity, Response):
            close = refusal_as_close(request, identity)
            if close is None:
                await _refuse_websocket(scope, send, identity)
            else:
                await _accept(request, send)
                await send({"type": "websocket.close", "code": close[0], "reason": close[1]})
            return
        await _accept(request, send)
        # While `_accept` waited, the hub may have been closed or may have become full.
        if hub.admission.check_room(request) is not None:
            await send({"type": "websocket.close", "code": CloseCode.TRY_AGAIN_LATER})
            return
        transport = WebSocketTransport(hub, receive, send)
        await transport.run(request.remote_address, identity, context)

    async def _refuse_http(self, scope: Scope) -> Response:
        """Return the response to a plain HTTP request, which cannot open a WebSocket."""
        if scope["method"] not in ("GET", "HEAD"):
            return METHOD_NOT_ALLOWED
        # The request gets the refusal that a handshake with the same headers would get.
        try:
            identity = await self._get_hub().admission.admit(read_request(scope), copy_context())
        except (HubNotStartedError, HubClosedError):
            return NOT_RUNNING
        return identity if isinstance(identity, Response) else UPGRADE_REQUIRED

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        try:
            await self._lifespan.__aenter__()
        except HubClosedError as error:
            # After an exception, servers go on without a lifespan. That is right for a hub that
            # runs already, but a closed hub would refuse every client.
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        try:
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        finally:
            await self._lifespan.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})


class WebSocketTransport(ASGITransport):
    """One WebSocket of an ASGI server; implements `Transport`.

    Args:
        hub: The hub.
        receive: Returns the next event of the server.
        send: Sends an event to the server.
    """

    def __init__(self, hub: RunningHub, receive: Receive, send: Send) -> None:
        super().__init__(hub, receive, send)
        self._may_read = asyncio.Event()
        self._may_read.set()
        # Events that were received while reading was paused.
        self._buffered: deque[Event] = deque()
        self._buffered_bytes = 0
        # The call of `receive` that began while reading was paused. It is awaited later and not
        # cancelled, because a cancelled call could lose an event.
        self._receiving: asyncio.Future[Event] | None = None
        # The server has reported the end of the client.
        self._is_gone = False

    async def _read_all(self, connection: ServerConnection) -> None:
        limit = self._hub.config.max_message_bytes
        turn_end = monotonic() + TURN_SECONDS
        while True:
            if monotonic() >= turn_end:
                # `receive` returns buffered events without a pause, so a flood would keep this
                # task from ever giving way.
                await asyncio.sleep(0)
                turn_end = monotonic() + TURN_SECONDS
            event = await self._next_event()
            if event["type"] == "websocket.disconnect":
                code, reason = event.get("code"), event.get("reason") or ""
                if code not in _NO_CODES and self._ending[0] is DisconnectCause.LOST:
                    self._ending = DisconnectCause.CLIENT_CLOSED, code, reason
                return
            if self._ending[0] is DisconnectCause.PROTOCOL_ERROR:
                continue  # the connection is being closed, so the message is ignored
            payload = _payload_of(event)
            if len(payload) > limit:
                # Servers have limits of their own, which may be higher than the hub's.
                self._ending = DisconnectCause.PROTOCOL_ERROR, CloseCode.MESSAGE_TOO_BIG, ""
                self._hub.lifecycle.leave(connection)
                self.close(CloseCode.MESSAGE_TOO_BIG, "")
                continue
            connection.note_heard(self._hub.clock.time())
            connection.receive(payload)

    async def _next_event(self) -> Event:
        """Wait until the hub reads or the client has gone; return the next event."""
        while not self._may_read.is_set() and not self._is_gone:
            await self._buffer_event()
        if self._buffered:
            event = self._buffered.popleft()
            self._buffered_bytes -= len(_payload_of(event))
            return event
        if self._receiving is not None:
            receiving, self._receiving = self._receiving, None
            return await receiving
        return await self._receive()

    async def _buffer_event(self) -> None:
        """Buffer one event while reading is paused, so that the end of the client is noticed.

        Return early when reading is resumed.
        """
        if self._receiving is None and self._buffered_bytes <= _MAX_BUFFERED_BYTES:
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
            self._buffered.append(event)
            self._buffered_bytes += len(_payload_of(event))
            self._is_gone = event["type"] == "websocket.disconnect"

    def _stop_reading(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()

    async def _write(self, messages: Sequence[PreparedMessage]) -> None:
        for message in messages:
            for payload in message.payloads:
                await self._send({"type": "websocket.send", "text": payload.decode()})
                self._note_taken(len(payload))

    async def _write_close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    # Called by connections; documented on Transport.

    def pause_reading(self) -> None:
        """Serve no more messages; see `Transport.pause_reading`."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Serve messages again; see `Transport.resume_reading`."""
        self._may_read.set()


def _payload_of(event: Event) -> bytes:
    """Return the message of an event; empty for an event without a message."""
    # Either field may be absent or None.
    text: str | None = event.get("text")
    payload: bytes = event.get("bytes") or b""
    return payload if text is None else text.encode()


async def _accept(request: Request, send: Send) -> None:
    await send({"type": "websocket.accept", "subprotocol": select_subprotocol(request)})


async def _refuse_websocket(scope: Scope, send: Send, response: Response) -> None:
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await send_response(send, "websocket.http", response)
    else:
        # Without the extension, the server responds with 403.
        await send({"type": "websocket.close"})
