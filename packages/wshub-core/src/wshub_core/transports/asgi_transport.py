"""The part of a transport that all connections of an ASGI server share: writing, and the end."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from contextvars import Context, copy_context

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.running_hub import RunningHub
from wshub_core.logs import get_logger
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.transports.asgi_messages import Receive, Send
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import DisconnectCause
from wshub_core.values.http import Request, Response

logger = get_logger("wshub.asgi")

NOT_RUNNING = Response(503, b"Hub is not running\n")
"""The response of a hub that has not started, or that is closed."""


async def admit(hub: RunningHub, request: Request) -> tuple[AuthResult | Response, Context]:
    """Run the checks of admission on a request.

    Returns:
        The client's identity or the refusal, and the context for the callbacks of the connection.
    """
    context = copy_context()
    # The authenticator must run in the context that the connection's callbacks share later. The
    # context of a running task cannot be changed, so a separate task is needed.
    admitting = hub.spawn(hub.admission.admit(request, context), context)
    try:
        await asyncio.wait({admitting})
    finally:
        admitting.cancel()
    # The task is cancelled when the hub closes.
    return NOT_RUNNING if admitting.cancelled() else admitting.result(), context


class ASGITransport:
    """A connection of an ASGI server; the base of implementations of `Transport`.

    A separate task sends, because the ``send`` of ASGI waits for the client. The task in which the
    server has called the application receives. A subclass defines `_read_all`, `_write` and
    `_write_close`.

    Args:
        hub: The hub.
        receive: Returns the next event of the server.
        send: Sends an event to the server.
    """

    _part_bytes = 0
    """Bytes of messages above which the rest waits for the next call of `_write`."""

    def __init__(self, hub: RunningHub, receive: Receive, send: Send) -> None:
        self._hub = hub
        self._receive = receive
        self._send = send
        # None until `RunningHub.connect` returns, which calls `on_connect` before.
        self._connection: ServerConnection | None = None
        # Messages, and at the end the code and the reason of a close.
        self._unsent: deque[PreparedMessage | tuple[int, str]] = deque()
        self._unsent_bytes = 0
        # The part of them that the running call of `_write` has.
        self._batch_bytes = 0
        self._has_unsent = asyncio.Event()
        self._is_writing = False
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
                    self._stop_reading()
                    self._hub.lifecycle.note_disconnected(connection, *self._ending)

    async def _read_all(self, connection: ServerConnection) -> None:
        """Receive until the client has gone."""
        raise NotImplementedError

    def _stop_reading(self) -> None:
        """Cancel what waits for the server, at the end."""

    async def _write(self, messages: Sequence[PreparedMessage]) -> None:
        """Send messages to the server."""
        raise NotImplementedError

    async def _write_close(self, code: int, reason: str) -> None:
        """Send the close of the connection to the server."""
        raise NotImplementedError

    async def _write_all(self, connection: ServerConnection) -> None:
        self._is_writing = True
        if self._unsent:
            self._hub.lifecycle.stalled_writes.pause_writing(connection)
        while True:
            await self._has_unsent.wait()
            while self._unsent:
                messages = self._take_messages()
                self._batch_bytes = sum(message.size for message in messages)
                try:
                    if not messages:
                        await self._write_close(*self._take_close())
                        return  # nothing may follow a close
                    await self._write(messages)
                except Exception as error:
                    # The client has gone. Each server raises its own exception for that.
                    logger.debug("sending failed: %r", error)
                    self.abort()
                    return
                self._note_taken(self._batch_bytes)
            self._has_unsent.clear()
            self._hub.lifecycle.stalled_writes.resume_writing(connection)

    def _note_taken(self, size: int) -> None:
        """Note that the server has taken some bytes of the messages that `_write` has."""
        self._batch_bytes -= size
        self._unsent_bytes -= size

    def _take_messages(self) -> list[PreparedMessage]:
        """Remove the next messages and return them; none if the next item is a close."""
        messages: list[PreparedMessage] = []
        size = 0
        while self._unsent and not isinstance(item := self._unsent[0], tuple):
            size += item.size
            if messages and size > self._part_bytes:
                break
            messages.append(item)
            self._unsent.popleft()
        return messages

    def _take_close(self) -> tuple[int, str]:
        item = self._unsent.popleft()
        assert isinstance(item, tuple), "the caller has taken the messages"
        return item

    # Called by connections; documented on Transport.

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        """Queue messages for the sending task; see `Transport.send`."""
        self._unsent.extend(messages)
        self._unsent_bytes += sum(message.size for message in messages)
        self._has_unsent.set()
        # One batch at a time: further messages wait in the outbox until the server has taken this
        # one. The time limit of a write starts here, so it must not start before the writing.
        if self._is_writing and self._connection is not None:
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

    def resume_reading(self) -> None:
        """Serve messages again; see `Transport.resume_reading`."""

    @property
    def _is_ending(self) -> bool:
        """True after `close` or `abort`."""
        return self._time_limit.when() is not None

    def _end_within(self, seconds: float) -> None:
        if self._has_ended or self._time_limit.expired():
            return
        end = asyncio.get_running_loop().time() + seconds
        before = self._time_limit.when()
        # A close behind an abort must not give the connection more time.
        if before is None or end < before:
            self._time_limit.reschedule(end)
