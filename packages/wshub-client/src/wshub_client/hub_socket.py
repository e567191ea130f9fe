"""The WebSocket of a client, which joins frames to payloads as they come."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import BINARY, CONT, TEXT, CloseCode, Frame
from websockets.protocol import CLOSING, OPEN, Event

_PAYLOADS_AT_ONCE = 256
"""Number of payloads of one read that are processed without a break: about 1 ms of work."""


class HubSocket(ClientConnection):
    """A WebSocket that joins frames to payloads, and passes a payload on as soon as it is complete.

    `ClientConnection` gives each frame to the task that reads, through a queue and a future. The
    task then gives the message to the task of the application, through another queue and another
    future. The change from task to task costs more than all else that the client does with a
    message. So a payload that needs no wait is processed before `data_received` returns.

    Args:
        *args: The arguments of `ClientConnection`.
        **options: The other arguments of `ClientConnection`.

    Attributes:
        on_data: Called whenever bytes have come.
        take_at_once: Called with a payload while `receive` waits and no other payload does. Returns
            whether it has processed the payload; if not, it has had no effect, and `receive`
            returns the payload.
    """

    # `ClientConnection` has a dictionary for its attributes. With these in it, CPython would not
    # share its keys between the instances, which takes 1,600 bytes more for each.
    __slots__ = (
        "_arrival",
        "_closing_timer",
        "_fragments",
        "_has_failed",
        "_has_response",
        "_is_lost",
        "_is_text",
        "_left_at_once",
        "_payloads",
        "on_data",
        "take_at_once",
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.on_data: Callable[[], None] | None = None
        self.take_at_once: Callable[[str | bytes], bool] | None = None
        self._has_response = False
        self._has_failed = False
        self._is_lost = False
        self._left_at_once = 0
        # The payload of an unfinished fragmented message, and its kind.
        self._fragments = bytearray()
        self._is_text = True
        # Complete payloads, and the future of the call of `receive` that waits for one.
        self._payloads: deque[str | bytes] | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._closing_timer: asyncio.TimerHandle | None = None

    def forget_handshake(self) -> None:
        """Free the memory of the headers; call this once the WebSocket is open."""
        self.request = self.response = None

    async def receive(self) -> str | bytes:
        """Return the next payload.

        Raises:
            ConnectionClosed: The connection has ended, and there are no more payloads.
        """
        while not self._payloads:
            if self._is_lost:
                raise self.protocol.close_exc
            self._arrival = self.loop.create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        payload = self._payloads.popleft()
        if not self._payloads:
            # An empty queue would take more memory than the rest of this object.
            self._payloads = None
            if not self._is_lost:
                self.transport.resume_reading()
        return payload

    # Called by asyncio and by `ClientConnection`.

    def data_received(self, data: bytes) -> None:
        """Process bytes from the hub."""
        if self.on_data is not None:
            self.on_data()
        self._left_at_once = _PAYLOADS_AT_ONCE
        super().data_received(data)
        if self.protocol.state is CLOSING and self._closing_timer is None:
            self._start_closing_timer()

    def process_event(self, event: Event) -> None:
        """Process the response of the handshake, or a frame."""
        if not self._has_response:
            self._has_response = True
            super().process_event(event)
            return
        assert isinstance(event, Frame), "there is one response"
        opcode = event.opcode
        if opcode is TEXT or opcode is BINARY:
            self._is_text = opcode is TEXT
            if event.fin:
                self._take_payload(event.data)
            else:
                self._fragments += event.data
        elif opcode is CONT:
            # The fragments are joined here, because websockets 17 joins at most 4,096 of them, and
            # hubs of go-ws send fragments of 1,024 bytes. An endless series of empty fragments
            # takes no memory.
            self._fragments += event.data
            if event.fin:
                fragments, self._fragments = self._fragments, bytearray()
                self._take_payload(fragments)
        # The protocol answers pings by itself, and nobody waits for a pong.

    def connection_lost(self, exc: Exception | None) -> None:
        """Make `receive` raise an error behind the last payload."""
        super().connection_lost(exc)
        self._is_lost = True
        if self._closing_timer is not None:
            self._closing_timer.cancel()
        self._wake()

    # Payloads.

    def _take_payload(self, data: bytes | bytearray | memoryview) -> None:
        if self._has_failed:
            return
        try:
            payload = str(data, "utf-8") if self._is_text else bytes(data)
        except UnicodeDecodeError as error:
            self._fail(f"{error.reason} at position {error.start}")
            return
        arrival, take = self._arrival, self.take_at_once
        if take is not None and arrival is not None and not arrival.done() and self._left_at_once:
            self._left_at_once -= 1
            try:
                if take(payload):
                    return
            except Exception as error:
                # A fault of this package, which the task that reads reports.
                arrival.set_exception(error)
                return
        self._queue(payload)

    def _queue(self, payload: str | bytes) -> None:
        if self._payloads is None:
            self._payloads = deque()
            # The next read waits until the application has taken this payload.
            self.transport.pause_reading()
        self._payloads.append(payload)
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # The end.

    def _fail(self, reason: str) -> None:
        self._has_failed = True
        # During the closing handshake a violation changes nothing any more.
        if self.protocol.state is OPEN:
            self.protocol.fail(CloseCode.INVALID_DATA, reason)
            self.send_data()

    def _start_closing_timer(self) -> None:
        # A hub that does not close its side, and goes on sending, would keep the connection.
        if self.close_timeout is not None:
            self._closing_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
