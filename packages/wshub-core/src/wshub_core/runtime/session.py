"""One accepted WebSocket, as the runtime works with it."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeAlias

from wshub_core.runtime.connection import Connection
from wshub_core.runtime.transport import Transport
from wshub_core.state.counters import Counters
from wshub_core.state.outbox import Outbox
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import CloseCode, DisconnectCause, validate_close
from wshub_core.values.messages import Message

Work: TypeAlias = Coroutine[Any, Any, object] | None
"""What is left of a step that takes more than a moment; None for nothing."""


class SessionOwner(Protocol):
    """What a session needs of those who manage it.

    Attributes:
        counters: Where deliveries are counted.
    """

    counters: Counters

    def subscriptions_of(self, session: "Session") -> tuple[str, ...]:
        """Return the channels of a session, sorted."""

    def send(self, session: "Session", message: Message) -> bool:
        """Queue a message for a session alone; return whether that was possible."""

    def close(self, session: "Session", code: int, reason: str) -> None:
        """Take a session out of the hub and start to close it."""

    def serve_frame(self, session: "Session", payload: bytes | bytearray) -> Work:
        """Do what a frame asks for."""

    def spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Start a task that the hub waits for when it is closed."""

    def time(self) -> float:
        """Return the time of the hub's clock."""


class Session(Connection):
    """The connection with its outbox, its transport, and the order of its steps.

    Steps are taken strictly in order: the greeting, each frame, the farewell. While one takes its
    time, no more is read from the peer, so that what waits is bounded by what one read brought.

    Attributes:
        outbox: What waits to be written.
        is_writable: Whether the transport takes more now.
        ending: Why and how the hub has ended it; None while it has not.
        last_heard, next_ping, slot: Kept by the heartbeat.
    """

    __slots__ = (
        "_farewell",
        "_gone",
        "_owner",
        "_steps",
        "_transport",
        "_working",
        "ending",
        "is_writable",
        "last_heard",
        "next_ping",
        "outbox",
        "slot",
    )

    def __init__(
        self,
        connection_id: int,
        remote_address: str,
        identity: AuthResult,
        owner: SessionOwner,
        transport: Transport,
        outbox: Outbox,
    ) -> None:
        super().__init__(connection_id, remote_address, identity.user_id, identity.claims)
        self.outbox = outbox
        self.is_writable = True
        self.ending: tuple[DisconnectCause, int, str] | None = None
        self.last_heard = math.inf
        self.next_ping = math.inf
        self.slot = 0
        self._owner = owner
        self._transport: Transport | None = transport
        self._gone: asyncio.Event | None = None
        # Both are there only while a step takes its time, which few connections ever need.
        self._working: asyncio.Task[object] | None = None
        self._steps: deque[Callable[[], Work]] | None = None
        self._farewell: Callable[[], Work] | None = None

    # What the application sees; documented on Connection.

    @property
    def subscriptions(self) -> tuple[str, ...]:  # noqa: D102
        return self._owner.subscriptions_of(self)

    @property
    def dropped_messages(self) -> int:  # noqa: D102
        return self.outbox.dropped

    def send(self, message: Message) -> bool:  # noqa: D102
        return self._owner.send(self, message)

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:  # noqa: D102
        validate_close(code, reason)
        self._owner.close(self, code, reason)
        if asyncio.current_task() is not self._working or self._working is None:
            await self.wait_gone()

    # What the runtime does with it.

    async def wait_gone(self) -> None:
        """Wait until the transport is gone."""
        if self._transport is not None:
            self._gone = self._gone or asyncio.Event()
            await self._gone.wait()

    def write_outbox(self, most_bytes: int) -> None:
        """Hand what waits to the transport, which may hold some of it for now.

        Args:
            most_bytes: How many bytes to hand over; what waits longer can still be dropped.
        """
        if self._transport is not None and self.outbox.messages:
            before = self.outbox.queued_bytes
            messages = self.outbox.take(most_bytes)
            self._owner.counters.deliveries += len(messages)
            self._owner.counters.bytes += before - self.outbox.queued_bytes
            self.outbox.unsent_bytes = self._transport.send(messages)

    def unsent_bytes(self) -> int:
        """Return how many bytes the transport holds."""
        return 0 if self._transport is None else self._transport.unsent_bytes()

    def ping(self) -> None:
        """Ask the peer for a sign of life; one that takes no bytes would not hear it."""
        if self._transport is not None and self.is_writable:
            self._transport.ping()

    def start_close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the answer is read even while a step takes its time."""
        if self._transport is not None:
            self._transport.close(code, reason)
            self._transport.resume_reading()

    def abort(self) -> None:
        """End the network connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def lose_transport(self) -> None:
        """Note that the transport is gone, and wake those who wait for that."""
        self._transport = None
        if self._gone is not None:
            self._gone.set()

    def receive(self, payload: bytes | bytearray) -> None:
        """Take one frame from the peer; one that is being closed has nothing more to say."""
        if self.ending is not None:
            return
        if self._steps is None:
            self._start(self._owner.serve_frame(self, payload))
        else:
            self._steps.append(partial(self._owner.serve_frame, self, payload))

    def greet(self, step: Callable[[], Work]) -> None:
        """Take the first step."""
        self._start(step())

    def bid_farewell(self, step: Callable[[], Work]) -> None:
        """Take the last step, when those before it are done or have been cancelled."""
        self._farewell = step
        if self._steps is None:
            self._start(self._take_farewell())

    def _start(self, work: Work) -> None:
        if work is None:
            return
        self._steps = deque()
        # What the peer says meanwhile is not heard, and that is not its fault.
        self.last_heard = math.inf
        if self._transport is not None:
            self._transport.pause_reading()
        self._working = self._owner.spawn(self._work_off(work, self._steps))

    def _take_farewell(self) -> Work:
        step, self._farewell = self._farewell, None
        return None if step is None else step()

    async def _work_off(
        self, work: Coroutine[Any, Any, object], steps: deque[Callable[[], Work]]
    ) -> None:
        try:
            await work
            while steps:
                more_work = steps.popleft()()
                if more_work is not None:
                    await more_work
        finally:
            try:
                # Also when the hub has lost its patience with a callback.
                farewell = self._take_farewell()
                if farewell is not None:
                    await farewell
            finally:
                self._working = self._steps = None
                self.last_heard = self._owner.time()
                if self._transport is not None:
                    self._transport.resume_reading()
