"""The ASGI transport: a hub inside an ASGI 3.0 application (Starlette, FastAPI, Litestar, Django).

The application's server handles the HTTP and WebSocket protocols and sends the pings. This module
maps ASGI events to the methods of `Transport`. The order of messages, the bounds and the policies
are those of the hub, as with the native transport.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
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
from wshub_core.transports.reading import TURN_SECONDS
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import CloseCode, DisconnectCause
from wshub_core.values.errors import HubClosedError, HubNotStartedError
from wshub_core.values.http import METHOD_NOT_ALLOWED, UPGRADE_REQUIRED, Request, Response
from wshub_core.values.subprotocols import refusal_as_close, select_subprotocol

logger = get_logger("wshub.asgi")

_NO_CODES = (None, 1005, 1006)
"""Codes that servers report both without a close frame and for a close frame without a code."""

_MAX_BUFFERED_BYTES = 65_536
"""Bytes of buffered messages above which no more events are received while reading is paused."""

_NOT_RUNNING = Response(503, b"Hub is not running\n")


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
            await _refuse_websocket(scope, send, _NOT_RUNNING)
            return
        request = read_request(scope)
        context = copy_context()
        # The authenticator must run in the context that the connection's callbacks share later. The
        # context of a running task cannot be changed, so a separate task is needed.
        admitting = hub.spawn(hub.admission.admit(request, context), context)
        try:
            await asyncio.wait({admitting})
        finally:
            admitting.cancel()
        # The task is cancelled when the hub closes.
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
        # While `_accept` waited, the hub may have been closed or may have become full.
        if hub.admission.check_room(request) is not None:
            await send({"type": "websocket.close", "code": CloseCode.TRY_AGAIN_LATER})
            return
        transport = ASGITransport(hub, receive, send)
        await transport.run(request.remote_address, identity, context)

    async def _refuse_http(self, scope: Scope) -> Response:
        """Return the response to a plain HTTP request, which cannot open a WebSocket."""
        if scope["method"] not in ("GET", "HEAD"):
            return METHOD_NOT_ALLOWED
        # The request gets the refusal that a handshake with the same headers would get.
        try:
            identity = await self._get_hub().admission.admit(read_request(scope), copy_context())
        except (HubNotStartedError, HubClosedError):
            return _NOT_RUNNING
        return identity if isinstance(identity, Response) else UPGRADE_REQUIRED

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        async with self._lifespan:
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        await send({"type": "lifespan.shutdown.complete"})


class ASGITransport:
    """One WebSocket of an ASGI server; implements `Transport`.

    A separate task sends, because the ``send`` of ASGI waits for the client. The task in which the
    server has called the application receives.

    Args:
        hub: The hub.
        receive: Returns the next event of the server.
        send: Sends an event to the server.
    """

    def __init__(self, hub: RunningHub, receive: Receive, send: Send) -> None:
        self._hub = hub
        self._receive = receive
        self._send = send
        # None until `RunningHub.connect` returns, which calls `on_connect` before.
        self._connection: ServerConnection | None = None
        # Messages, and at the end the code and the reason of a close.
        self._unsent: deque[PreparedMessage | tuple[int, str]] = deque()
        self._unsent_bytes = 0
        self._has_unsent = asyncio.Event()
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
        self._has_ended = False
        # Ends `run`; set when the connection is closed or aborted.
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
                    # The block of the time limit ends here, so it cannot be rescheduled any more.
                    self._has_ended = True
                    writing.cancel()
                    if self._receiving is not None:
                        self._receiving.cancel()
                    self._hub.lifecycle.note_disconnected(connection, *self._ending)

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

    async def _write_all(self, connection: ServerConnection) -> None:
        while True:
            await self._has_unsent.wait()
            while self._unsent:
                item = self._unsent.popleft()
                try:
                    await self._write(item)
                except Exception as error:
                    # The client has gone. Each server raises its own exception for that.
                    logger.debug("sending failed: %r", error)
                    self.abort()
                    return
                if isinstance(item, tuple):
                    return  # nothing may follow a close
                self._unsent_bytes -= item.size
            self._has_unsent.clear()
            self._hub.lifecycle.stalled_writes.resume_writing(connection)

    async def _write(self, item: PreparedMessage | tuple[int, str]) -> None:
        if isinstance(item, PreparedMessage):
            for payload in item.payloads:
                await self._send({"type": "websocket.send", "text": payload.decode()})
        else:
            code, reason = item
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    # Called by connections; documented on Transport.

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        """Queue messages for the sending task; see `Transport.send`."""
        self._unsent.extend(messages)
        self._unsent_bytes += sum(message.size for message in messages)
        self._has_unsent.set()
        # One batch at a time: further messages wait in the outbox until the server has taken this
        # one. `on_connect` can send before `_connection` is set.
        if self._connection is not None:
            self._hub.lifecycle.stalled_writes.pause_writing(self._connection)
        return self._unsent_bytes

    def unsent_bytes(self) -> int:
        """Return the bytes that the server has not taken; see `Transport.unsent_bytes`."""
        return self._unsent_bytes

    def ping(self) -> None:
        """Count the client as alive, because the server sends the pings; see `Transport.ping`."""
        if self._connection is not None:
            self._connection.note_heard(self._hub.clock.time())

    def close(self, code: int, reason: str) -> None:
        """Close behind all queued messages; see `Transport.close`."""
        self._unsent.append((code, reason))
        self._has_unsent.set()
        self._end_within(self._hub.config.close_timeout)

    def abort(self) -> None:
        """End the connection at once; see `Transport.abort`."""
        # ASGI has no event for an abort: the application returns, which makes the server close.
        self._end_within(0)

    def pause_reading(self) -> None:
        """Serve no more messages; see `Transport.pause_reading`."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Serve messages again; see `Transport.resume_reading`."""
        self._may_read.set()

    def _end_within(self, seconds: float) -> None:
        if not self._has_ended and not self._time_limit.expired():
            self._time_limit.reschedule(asyncio.get_running_loop().time() + seconds)


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
