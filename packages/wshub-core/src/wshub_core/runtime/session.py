"""One accepted WebSocket, as the runtime works with it."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
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


_MAX_BACKLOG_BYTES = 65_536
"""The most bytes of frames that wait for a callback before the peer is not read any more."""

_STEP_BYTES = 128
"""What a waiting frame costs beside its bytes, so that tiny frames are bounded as well."""


_STEPS_PER_TURN = 50
"""How many plain steps are taken before others get a turn on the event loop."""


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

    def spawn(self, work: Coroutine[Any, Any, object], context: Context) -> asyncio.Task[Any]:
        """Start a task that the hub waits for when it is closed."""

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back in the next round of the event loop."""

    def limit_step(self, session: "Session") -> None:
        """Start the time that a callback has left after its connection has ended."""

    def time(self) -> float:
        """Return the time of the hub's clock."""


class Session(Connection):
    """The connection with its outbox, its transport, and the order of its steps.

    Steps are taken strictly in order: ``on_connect``, each frame, ``on_disconnect``. While a step
    awaits something, frames wait, and the peer is still read, so that its pongs and its end are
    noticed. When too many bytes wait, reading pauses.

    Attributes:
        outbox: What waits to be written.
        is_writable: Whether the transport takes more now.
        ending: Why and how the hub has ended it; None while it has not.
        last_heard, next_ping, slot: Kept by the heartbeat.
        context: The context variables of the connection. Its callbacks share them.
    """

    __slots__ = (
        "_backlog_bytes",
        "_cancelled",
        "_farewell",
        "_gone",
        "_owner",
        "_steps",
        "_transport",
        "_working",
        "context",
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
        context: Context,
    ) -> None:
        super().__init__(connection_id, remote_address, identity.user_id, identity.claims)
        self.outbox = outbox
        self.context = context
        self.is_writable = True
        self.ending: tuple[DisconnectCause, int, str] | None = None
        self.last_heard = math.inf
        self.next_ping = math.inf
        self.slot = 0
        self._owner = owner
        self._transport: Transport | None = transport
        self._gone: asyncio.Event | None = None
        # Both are there only while a step takes its time, which few connections ever need.
        self._working: asyncio.Task[Any] | None = None
        self._cancelled: asyncio.Task[Any] | None = None
        self._steps: deque[tuple[int, Callable[[], Work]]] | None = None
        self._backlog_bytes = 0
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
        """Take one frame from the peer; the frames of a connection that is closed are ignored."""
        if self.ending is not None:
            return
        step = partial(self._owner.serve_frame, self, payload)
        if self._steps is None:
            self._take_steps(step)
            return
        size = len(payload) + _STEP_BYTES
        self._steps.append((size, step))
        self._backlog_bytes += size
        if self._backlog_bytes > _MAX_BACKLOG_BYTES and self._transport is not None:
            # The peer's pongs are not read either, so its silence proves nothing.
            self.last_heard = math.inf
            self._transport.pause_reading()

    def greet(self, step: Callable[[], Work]) -> None:
        """Take the first step."""
        self._take_steps(step)

    def bid_farewell(self, step: Callable[[], Work]) -> None:
        """Take the last step when those before it are done, or have been ended."""
        self._farewell = step
        if self._steps is None:
            self._take_farewell()
        else:
            self._owner.limit_step(self)

    def cancel_step(self) -> bool:
        """Cancel a step that takes too long after the connection has ended.

        Frames that wait behind it are dropped.

        Returns:
            Whether it was not cancelled before.
        """
        if self._working is None or self._working is self._cancelled:
            return False
        self._cancelled = self._working
        if self._steps:
            self._steps.clear()
        self._working.cancel()
        self._owner.limit_step(self)
        return True

    def abandon_step(self) -> None:
        """Leave a step behind that ignores its cancellation, and take the last one."""
        if self._working is not None and self._farewell is not None:
            self._working = None
            self._end_steps()

    @property
    def is_working(self) -> bool:
        """Whether a step awaits something."""
        return self._working is not None

    def _take_steps(self, step: Callable[[], Work] | None = None) -> None:
        """Take steps one after the other, until one awaits something or none is left.

        Args:
            step: The first one; those that wait if None.
        """
        if self._steps is None:
            self._steps = deque()
        work: Work = None
        taken = 0
        try:
            while work is None and (step is not None or self._steps):
                if taken == _STEPS_PER_TURN:
                    self._owner.call_soon(self._take_steps)
                    return
                if step is None:
                    size, step = self._steps.popleft()
                    self._note_backlog(self._backlog_bytes - size)
                next_step, step = step, None
                work = self.context.run(next_step)
                taken += 1
        except BaseException:
            # A bug of ours; no callback raises.
            self._end_steps()
            raise
        if work is None:
            self._end_steps()
        else:
            self._start(work)

    def _start(self, work: Coroutine[Any, Any, object]) -> None:
        self._working = self._owner.spawn(work, self.context)
        self._working.add_done_callback(self._note_done)

    def _note_done(self, task: asyncio.Task[Any]) -> None:
        if task is self._working:
            self._working = None
            if self._farewell is not None:
                self._owner.limit_step(self)
            self._take_steps()

    def _end_steps(self) -> None:
        self._steps = None
        self._note_backlog(0)
        if self._farewell is not None:
            self._take_farewell()

    def _take_farewell(self) -> None:
        step, self._farewell = self._farewell, None
        work = None if step is None else self.context.run(step)
        if work is not None:
            self._start(work)
            self._owner.limit_step(self)

    def _note_backlog(self, size: int) -> None:
        was_held = self._backlog_bytes > _MAX_BACKLOG_BYTES
        self._backlog_bytes = size
        if was_held and size <= _MAX_BACKLOG_BYTES and self._transport is not None:
            self.last_heard = self._owner.time()
            self._transport.resume_reading()
