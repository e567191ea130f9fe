"""One accepted WebSocket, as the runtime works with it."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

from wshub_core.runtime.connection import Connection
from wshub_core.runtime.transport import Transport
from wshub_core.state.outbox import Outbox
from wshub_core.values.closing import CloseCode, validate_close


class SessionOwner(Protocol):
    """What a session needs of those who manage it."""

    def subscriptions_of(self, session: "Session") -> tuple[str, ...]:
        """Return the channels of a session, sorted."""

    def close(self, session: "Session", code: int, reason: str) -> None:
        """Take a session out of the hub and start to close it."""

    def serve_frame(
        self, session: "Session", payload: bytes | bytearray
    ) -> Coroutine[Any, Any, None] | None:
        """Do what a frame asks for; return a coroutine if it takes more than a moment."""


class Session(Connection):
    """The connection with its outbox, its transport, and the order of its frames.

    Frames are served strictly in order. While one takes its time, no more are read from the peer,
    so that what waits is bounded by what one read brought.

    Attributes:
        outbox: What waits to be written.
        is_writable: Whether the transport takes more now.
    """

    __slots__ = (
        "__weakref__",
        "_gone",
        "_owner",
        "_serving",
        "_transport",
        "_waiting_frames",
        "is_writable",
        "outbox",
    )

    def __init__(
        self,
        connection_id: int,
        remote_address: str,
        owner: SessionOwner,
        transport: Transport,
        outbox: Outbox,
    ) -> None:
        super().__init__(connection_id, remote_address)
        self.outbox = outbox
        self.is_writable = True
        self._owner = owner
        self._transport: Transport | None = transport
        self._gone: asyncio.Event | None = None
        self._serving: asyncio.Task[None] | None = None
        self._waiting_frames: deque[bytes | bytearray] | None = None

    @property
    def subscriptions(self) -> tuple[str, ...]:  # noqa: D102 - documented on Connection
        return self._owner.subscriptions_of(self)

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:  # noqa: D102
        validate_close(code, reason)
        self._owner.close(self, code, reason)
        await self.wait_gone()

    async def wait_gone(self) -> None:
        """Wait until the transport is gone."""
        if self._transport is not None:
            if self._gone is None:
                self._gone = asyncio.Event()
            await self._gone.wait()

    def write_outbox(self) -> None:
        """Hand all that waits to the transport, which may hold some of it for now."""
        if self.outbox.messages and self._transport is not None:
            self.outbox.set_unsent(self._transport.send(self.outbox.take()))

    def start_close(self, code: int, reason: str) -> None:
        """Start the closing handshake, and stop serving frames."""
        self._stop_serving()
        if self._transport is not None:
            self._transport.close(code, reason)

    def receive(self, payload: bytes | bytearray) -> None:
        """Take one frame from the peer."""
        if self._waiting_frames is not None:
            self._waiting_frames.append(payload)
            return
        work = self._owner.serve_frame(self, payload)
        if work is not None and self._transport is not None:
            self._transport.pause_reading()
            self._waiting_frames = deque()
            self._serving = asyncio.get_running_loop().create_task(
                self._serve(work, self._waiting_frames)
            )

    async def _serve(
        self, work: Coroutine[Any, Any, None], waiting: deque[bytes | bytearray]
    ) -> None:
        try:
            await work
            while waiting:
                more_work = self._owner.serve_frame(self, waiting.popleft())
                if more_work is not None:
                    await more_work
        finally:
            # Also when cancelled: the answer to a close frame has to be read.
            self._serving = self._waiting_frames = None
            if self._transport is not None:
                self._transport.resume_reading()

    def lose_transport(self) -> None:
        """Note that the transport is gone, and wake those who wait for that."""
        self._transport = None
        self._stop_serving()
        if self._gone is not None:
            self._gone.set()

    def _stop_serving(self) -> None:
        if self._serving is not None:
            # In its turn, so that a task that was made in this tick has started: cancelled before,
            # it would leave the coroutines that it was to await unawaited.
            asyncio.get_running_loop().call_soon(self._serving.cancel)
