"""The transport of an event stream: a connection that only receives, over plain HTTP.

The request asks for channels. The transport turns each of them into a subscribe frame, so that the
rules for subscriptions, recovery and refusals are those of a WebSocket.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence

import msgspec

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.running_hub import RunningHub
from wshub_core.logs import get_logger
from wshub_core.protocol.event_ids import EventIDs
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.protocol.recovery import HistoryRequest
from wshub_core.protocol.server_sent_events import (
    SentEvent,
    encode_close,
    encode_heartbeat,
    encode_retry,
)
from wshub_core.transports.asgi_messages import Event, Receive, Send
from wshub_core.transports.asgi_transport import ASGITransport
from wshub_core.values.closing import CloseCode, DisconnectCause

logger = get_logger("wshub.event_stream")

_PART_BYTES = 32_768
"""Most bytes of one part of the body. Each part that the client takes is a sign of progress, so a
part must not take ``write_timeout``."""

_RETRY_SECONDS = (1.0, 5.0)
"""The times after which clients connect again. Each gets a random one, so that the clients of a hub
that has restarted do not come all at once."""

_RETRY_AFTER_SECONDS = "5"
"""Seconds in the ``Retry-After`` header of a response without an answer in time."""

_HEADERS = {
    "content-type": "text/event-stream",
    # Programs between hub and client must neither keep events, nor compress and so delay them.
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}


def make_start(status: int, headers: Mapping[str, str]) -> Event:
    """Return the ASGI event that begins an event stream.

    Args:
        status: The status of the response.
        headers: Headers in addition to those of every event stream.
    """
    pairs = [(k.lower().encode(), v.encode()) for k, v in {**_HEADERS, **headers}.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


class EventStreamTransport(ASGITransport):
    """One event stream; implements `Transport`.

    The response begins when the hub has accepted a channel. Its status is 403 if the hub has
    refused all of them, and 503 if answers are missing after ``open_timeout``. The body then has
    the refusals, and ends.

    Args:
        hub: The hub.
        receive: Returns the next event of the server.
        send: Sends an event to the server.
        channels: The channels of the request, each once.
        requests: The history that the client asks for, for each channel.
        headers: Headers of the response, see `make_start`.
    """

    _part_bytes = _PART_BYTES

    def __init__(
        self,
        hub: RunningHub,
        receive: Receive,
        send: Send,
        channels: Sequence[str],
        requests: Sequence[HistoryRequest | None],
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(hub, receive, send)
        self._channels = channels
        self._requests = requests
        self._headers = headers
        self._ids = EventIDs(channels, requests)
        self._heartbeat = encode_heartbeat(hub.config.heartbeat_interval)
        # A client has no other way to leave than to end its request.
        self._ending = DisconnectCause.CLIENT_CLOSED, 1006, ""
        self._status = 200
        self._is_started = False

    async def _read_all(self, connection: ServerConnection) -> None:
        for number, channel in enumerate(self._channels):
            frame = {"type": "subscribe", "channel": channel, "id": number}
            request = self._requests[number]
            connection.receive(msgspec.json.encode({**frame, "history": request}))
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._hub.lifecycle.leave(connection)
        # The event also stands for the end of the server; a client that has gone does not get it.
        self.close(CloseCode.GOING_AWAY, "server closed")
        await asyncio.Event().wait()  # the end of the response ends `run`

    async def _write_all(self, connection: ServerConnection) -> None:
        is_answered = await self._wait_answered(connection)
        if self._may_begin(connection):
            retry = encode_retry(random.uniform(*_RETRY_SECONDS))
            first = _Control(retry + self._heartbeat)
            self._unsent.appendleft(first)
            self._unsent_bytes += first.size
            self._has_unsent.set()
        elif is_answered:
            self._status = 403
            self._close_connection(CloseCode.POLICY_VIOLATION, "all channels were refused")
        else:
            logger.warning("%r got no answer within open_timeout", connection)
            self._status = 503
            self._headers = {**self._headers, "Retry-After": _RETRY_AFTER_SECONDS}
            self._close_connection(CloseCode.TRY_AGAIN_LATER, "no answer in time")
        await super()._write_all(connection)

    async def _wait_answered(self, connection: ServerConnection) -> bool:
        """Wait for the first accepted channel, for all answers, or for the end.

        Returns:
            False if an answer is missing.
        """
        answering = asyncio.ensure_future(connection.wait_idle(self._hub.config.open_timeout))
        answering.add_done_callback(lambda _: self._has_unsent.set())
        try:
            while not (answering.done() or self._may_begin(connection)):
                self._has_unsent.clear()
                await self._has_unsent.wait()
            return answering.done() and answering.result()
        finally:
            answering.cancel()

    def _may_begin(self, connection: ServerConnection) -> bool:
        """Return whether the status is 200, whatever the answers that are missing."""
        return not self._channels or bool(connection.subscriptions) or self._is_ending

    async def _write(self, messages: Sequence[PreparedMessage]) -> None:
        events = [event for message in messages for event in message.events]
        body, is_whole = self._ids.join(events)
        size = self._batch_bytes
        for start in range(0, len(body), _PART_BYTES):
            part = body[start : start + _PART_BYTES]
            await self._send_body(part)
            # The events are longer than the frames that count.
            self._note_taken(size * len(part) // len(body))
        if not is_whole:
            self._close_connection(CloseCode.TRY_AGAIN_LATER, "messages are missing")

    async def _write_close(self, code: int, reason: str) -> None:
        await self._send_body(encode_close(code, reason) if self._status == 200 else b"")
        await self._send({"type": "http.response.body"})
        self.abort()

    async def _send_body(self, body: bytes) -> None:
        if not self._is_started:
            self._is_started = True
            await self._send(make_start(self._status, self._headers))
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    def _close_connection(self, code: int, reason: str) -> None:
        """End the connection, behind the messages that wait for it."""
        assert self._connection is not None, "the writing task starts behind `connect`"
        cause = DisconnectCause.SERVER_CLOSED
        self._hub.lifecycle.close(self._connection, cause, code, reason)

    def ping(self) -> None:
        """Send a comment, so that no program in between ends the silent stream.

        The client cannot answer. The server notices a client that has gone when it takes no bytes.
        """
        super().ping()
        self.send((_Control(self._heartbeat),))


class _Control(PreparedMessage):
    """A part of an event stream that is no message, such as a heartbeat."""

    __slots__ = ()

    def __init__(self, text: bytes) -> None:
        super().__init__(b"")
        self._events = (SentEvent(text, "", "", None),)
