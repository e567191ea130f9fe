"""The inbound queue: the frames and callbacks of one connection, served one after the other."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol, TypeAlias

Work: TypeAlias = Coroutine[Any, Any, object] | None
"""A coroutine that finishes the step, or None if the step is finished."""

_MAX_BACKLOG_BYTES = 65_536
"""Bytes of waiting frames above which reading from the peer pauses."""

_STEP_BYTES = 128
"""Bytes that a waiting frame counts in addition to its payload, so that tiny frames are bounded."""

_STEPS_PER_TURN = 50
"""Number of plain steps in a row before other tasks get a turn."""


class InboundConnection(Protocol):
    """The parts of a connection that its queue uses."""

    context: Context

    def pause_reading(self) -> None:
        """Stop reading the peer."""

    def resume_reading(self) -> None:
        """Read the peer again."""

    def close_inbound(self) -> None:
        """Drop the queue."""


class InboundOwner(Protocol):
    """The parts of a hub that the queue uses."""

    def spawn(
        self, work: Coroutine[Any, Any, object], context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Start a task that the hub waits for when it closes."""

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back in the next round of the event loop."""

    def start_callback_timeout(self, connection: Any) -> None:
        """Start the time limit of the callback of a connection that has ended."""


class InboundQueue:
    """The steps of one connection: ``on_connect``, each frame, ``on_disconnect``, in this order.

    A plain step is finished when it returns. Any other step returns a coroutine, which runs in a
    task. While the task runs, further frames wait. The peer is still read, so that its pongs and
    its close frame are noticed; when too many bytes wait, reading pauses. A connection has a queue
    only while a step waits or runs in a task.

    Args:
        connection: The connection.
        owner: The hub.

    Attributes:
        working: The task of the running step; None between tasks.
    """

    __slots__ = (
        "_backlog_bytes",
        "_cancelled",
        "_closed",
        "_connection",
        "_last_step",
        "_owner",
        "_steps",
        "working",
    )

    def __init__(self, connection: InboundConnection, owner: InboundOwner) -> None:
        self.working: asyncio.Task[Any] | None = None
        self._connection = connection
        self._owner = owner
        # The task that was cancelled. A second cancellation would cut its cleanup short.
        self._cancelled: asyncio.Task[Any] | None = None
        self._steps: deque[tuple[int, Callable[[], Work]]] = deque()
        self._backlog_bytes = 0
        self._last_step: Callable[[], Work] | None = None
        # Exists only while a task waits for it.
        self._closed: asyncio.Event | None = None

    def proceed(self, work: Work) -> None:
        """Finish the first step, and run the steps that arrived meanwhile.

        Args:
            work: What the first step has returned.
        """
        if work is not None:
            self._start(work)
        elif self._steps:
            self._run_steps()
        else:
            self._finish()

    def push(self, step: Callable[[], Work], payload_bytes: int) -> None:
        """Add the step of a frame behind all other steps."""
        size = payload_bytes + _STEP_BYTES
        self._steps.append((size, step))
        self._backlog_bytes += size
        if self._backlog_bytes > _MAX_BACKLOG_BYTES:
            self._connection.pause_reading()

    def run_last(self, step: Callable[[], Work]) -> None:
        """Run the last step of a connection that has no queue yet."""
        self._last_step = step
        self._run_last()

    def push_last(self, step: Callable[[], Work]) -> None:
        """Set the last step; the running step has a time limit from now on."""
        self._last_step = step
        self._owner.start_callback_timeout(self._connection)

    def cancel(self) -> bool:
        """Cancel the running step and drop the waiting ones.

        Returns:
            False if no step runs, or if it was cancelled before.
        """
        if self.working is None or self.working is self._cancelled:
            return False
        self._cancelled = self.working
        self._steps.clear()
        self.working.cancel()
        self._owner.start_callback_timeout(self._connection)
        return True

    def abandon(self) -> None:
        """Stop waiting for a step that ignores its cancellation, and run the last step."""
        if self.working is not None and self._last_step is not None:
            self.working = None
            self._finish()

    async def wait_closed(self, seconds: float) -> bool:
        """Wait until no step runs or waits any more; return False after a time in seconds."""
        self._closed = self._closed or asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        return self._closed.is_set()

    def _run_steps(self) -> None:
        """Run waiting steps until a step returns a coroutine, or no step is left."""
        work: Work = None
        count = 0
        try:
            while work is None and self._steps:
                if count == _STEPS_PER_TURN:
                    # The queue stays open meanwhile, so new frames line up behind the waiting ones.
                    self._owner.call_soon(self._run_steps)
                    return
                size, step = self._steps.popleft()
                self._set_backlog(self._backlog_bytes - size)
                work = self._connection.context.run(step)
                count += 1
        except BaseException:
            # Callbacks cannot raise here, so this is a bug in the hub. Without `_finish` the queue
            # would stay, and the connection would never be served again.
            self._finish()
            raise
        if work is None:
            self._finish()
        else:
            self._start(work)

    def _start(self, work: Coroutine[Any, Any, object]) -> None:
        self.working = self._owner.spawn(work, self._connection.context)
        self.working.add_done_callback(self._note_done)

    def _note_done(self, task: asyncio.Task[Any]) -> None:
        # An abandoned task may end late; it must not start the next step.
        if task is self.working:
            self.working = None
            # The next frame's step may start a task, which gets the whole time limit.
            if self._last_step is not None:
                self._owner.start_callback_timeout(self._connection)
            self._run_steps()

    def _finish(self) -> None:
        self._steps.clear()
        if self._last_step is not None:
            self._set_backlog(0)
            self._run_last()
        else:
            # Close first: `_set_backlog` may resume reading, and frames that arrive then need a new
            # queue.
            self._close()
            if self._backlog_bytes:
                self._set_backlog(0)

    def _run_last(self) -> None:
        step, self._last_step = self._last_step, None
        work = None if step is None else self._connection.context.run(step)
        if work is None:
            self._close()
        else:
            self._start(work)
            self._owner.start_callback_timeout(self._connection)

    def _close(self) -> None:
        self._connection.close_inbound()
        if self._closed is not None:
            self._closed.set()

    def _set_backlog(self, size: int) -> None:
        was_paused = self._backlog_bytes > _MAX_BACKLOG_BYTES
        self._backlog_bytes = size
        if was_paused and size <= _MAX_BACKLOG_BYTES:
            self._connection.resume_reading()
