"""The delivery of messages: from fan-out jobs into outboxes, and from outboxes to transports.

This module alone writes to outboxes. A fan-out to many connections takes longer than the event loop
may be blocked, so the work runs in slices of about 2 ms.
"""

import sys
from asyncio import Future, get_running_loop, shield
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from time import perf_counter

from wshub_core.connections.connection import CloseConnection, ServerConnection
from wshub_core.connections.delivery_job import DeliveryJob
from wshub_core.logs import get_logger
from wshub_core.loop.turns import TurningLoop
from wshub_core.protocol.counters import Counters
from wshub_core.protocol.prepared import PreparedMessage, PreparedPage
from wshub_core.values.closing import CloseCode, DisconnectCause

logger = get_logger("wshub.delivery")

_SLICE_SECONDS = 0.002
"""Time for which one slice blocks the event loop; a slice exceeds it by at most one chunk."""

_PUSH_CHUNK = 256
"""Number of outboxes that are filled between two checks of the clock: about 0.1 ms of work."""

_WRITE_CHUNK = 16
"""Number of sockets that are written between two checks of the clock: about 0.1 ms of work."""

_AT_ONCE = 4
"""Number of deliveries that need not wait for the next round of the event loop."""

_PAUSE_SECONDS = 0.00002
"""Time in seconds between a delivery at once and the next frame, below which the frame counts as
one of the same turn of the event loop. Its messages then wait, and share writes."""

_PHASE_BYTES = 131_072
"""Bytes that one phase moves into an outbox, and from there to its transport; exceeded by at most
one message. Bytes in the transport cannot be dropped any more, so it gets them in small parts."""

_MAX_JOB_BYTES = 8_388_608
"""Bytes of messages that may wait for their fan-out; above it, the publishing call fans out."""


class Delivery:
    """Delivers messages to connections, in order, without blocking the event loop for long.

    The work alternates between two phases. The fan-out phase moves waiting messages into the
    outboxes of their targets. The write phase hands each filled outbox to its transport with one
    write. Messages that are published during one phase are fanned out in the next, so messages that
    are published in quick succession share a write.

    If all waiting messages have the same targets, the fan-out phase writes them at once to the
    connections with an empty outbox.

    The class is one unit, although it has many methods: every way into an outbox keeps the order.

    A message to a single connection does not wait for the fan-out to all others. The delivery
    first catches up with all earlier messages of that connection, so their order holds, and writes
    to that connection before the fan-out continues.

    Args:
        loop: The event loop.
        counters: The hub's counters.
        close: Ends a connection whose outbox overflows under the policy ``close``.
    """

    def __init__(self, loop: TurningLoop, counters: Counters, close: CloseConnection) -> None:
        self._loop = loop
        self._counters = counters
        self._close = close
        self._jobs: deque[DeliveryJob] = deque()
        # The last job, if messages may still be added to it.
        self._open_job: DeliveryJob | None = None
        # Number of the last message. An outbox whose position is this number has been served from
        # every job.
        self._position = 0
        self._job_bytes = 0
        # Every writable connection with messages is in `_ready` or `_urgent`, or in the current
        # write phase, possibly more than once. An unwritable connection returns through `resume`.
        self._ready: list[ServerConnection] = []
        self._urgent: deque[ServerConnection] = deque()
        # The work that a slice has left for the next one.
        self._steps: Iterator[None] | None = None
        self._is_scheduled = False
        self._is_held = False
        self._is_running = False
        # Times of the last `hold`, and of the end of the last delivery by `release`.
        self._held_at = self._released_at = 0.0
        self._drained: dict[ServerConnection, Future[None]] = {}

    def fan_out(self, targets: Collection[ServerConnection], message: PreparedMessage) -> None:
        """Queue a message for many connections.

        Args:
            targets: The connections: a collection that does not change any more, with a fast
                membership test.
            message: The message.
        """
        if not targets:
            return
        self._position += 1
        self._job_bytes += message.size
        job = self._open_job
        if job is not None and job.targets is targets and job.size < _PHASE_BYTES:
            job.messages.append(message)
            job.size += message.size
        else:
            is_timed = self._counters.is_timing
            self._open_job = DeliveryJob(self._position, message, targets, is_timed)
            self._jobs.append(self._open_job)
        # A call from within the work, by a log handler for example, only queues its message: the
        # generator of the work cannot be resumed while it runs.
        if self._job_bytes > _MAX_JOB_BYTES and not self._is_running:
            # A loop without an await publishes faster than the delivery gets its turns. The fan-out
            # within the call slows that loop down and bounds the memory.
            self._run(sys.maxsize)
        else:
            self._schedule()

    def send_one(self, connection: ServerConnection, message: PreparedMessage) -> None:
        """Queue a message for one connection, behind all messages queued for it before."""
        self._catch_up(connection)
        self._push(connection, message)
        self._urgent.append(connection)
        self._schedule()

    def send_page(self, connection: ServerConnection, page: PreparedPage) -> None:
        """Queue a part of a history for one connection; see `send_one`."""
        if not connection.outbox.is_closed:
            self._counters.deliveries += page.count - 1  # the outbox counts the page as one
            self.send_one(connection, page)

    async def wait_drained(self, connection: ServerConnection) -> None:
        """Wait until nothing waits for a connection, or until the connection has ended."""
        outbox = connection.outbox
        while not outbox.is_closed and (outbox.messages or connection.unsent_bytes):
            future = self._drained.get(connection)
            if future is None:
                future = self._drained[connection] = get_running_loop().create_future()
            await shield(future)

    def has_progressed(self, connection: ServerConnection) -> bool:
        """Return whether the transport has sent bytes since the last write or call."""
        before = connection.outbox.unsent_bytes
        connection.outbox.unsent_bytes = connection.unsent_bytes
        return connection.outbox.unsent_bytes < before

    def resume(self, connection: ServerConnection) -> None:
        """Continue with a connection whose transport holds no more bytes."""
        connection.outbox.unsent_bytes = 0
        if self._drained:
            self._note_drained(connection)
        self._ready.append(connection)
        self._schedule()

    def close_outbox(self, connection: ServerConnection) -> None:
        """Drop the messages that wait for a connection, and refuse further ones."""
        connection.outbox.close()
        if self._drained:
            self._note_drained(connection)

    def flush(self, connection: ServerConnection) -> None:
        """Hand all messages of a connection to its transport at once, whatever it has to buffer."""
        self._catch_up(connection)
        self._write_outbox(connection, sys.maxsize)

    def hold(self) -> None:
        """Let messages wait until `release`."""
        self._is_held = True
        self._held_at = self._loop.time()

    def release(self) -> None:
        """Deliver what waits since `hold`: at once if that is little work, or else soon.

        A turn of the event loop costs as much as a delivery. The answers to many frames of one turn
        however share writes.
        """
        self._is_held = False
        if self._is_scheduled or not (self._jobs or self._ready or self._urgent):
            return
        if self._held_at > self._released_at + _PAUSE_SECONDS and self._has_little_work():
            self._work_at_once()
            self._released_at = self._loop.time()
            # Work can bring further work: a log handler may publish.
            if not (self._jobs or self._ready or self._urgent):
                return
        self._schedule()

    def _has_little_work(self) -> bool:
        writes = len(self._urgent) + len(self._ready)
        for job in islice(self._jobs, _AT_ONCE + 1):
            writes += len(job.targets)
        return writes <= _AT_ONCE

    def _schedule(self) -> None:
        if not self._is_scheduled and not self._is_held:
            self._is_scheduled = True
            self._loop.call_soon(self._run_slice)

    def _run_slice(self) -> None:
        self._is_scheduled = False
        self._run(self._loop.time() + _SLICE_SECONDS)
        if self._steps is not None:
            self._schedule()

    def _run(self, deadline: float) -> None:
        """Work until the deadline, or until no work is left."""
        self._is_running = True
        # Reset first: a generator that has raised is finished, and the next run needs a new one.
        steps, self._steps = self._steps or self._work(), None
        try:
            for _ in steps:
                if self._loop.time() >= deadline:
                    self._steps = steps
                    break
        finally:
            self._is_running = False

    def _work_at_once(self) -> None:
        """Do the work that waits, which is little."""
        self._is_running = True
        self._open_job = None
        try:
            # Only what waits now: a log handler that publishes after each failure goes on for ever.
            for _ in range(len(self._jobs)):
                job = self._jobs[0]
                self._write_job(job, job.targets)
                self._drop_job()
            for _ in range(len(self._urgent)):
                self._write(self._urgent.popleft())
            if self._ready:
                ready, self._ready = self._ready, []
                for connection in ready:
                    self._write(connection)
        finally:
            self._is_running = False

    def _work(self) -> Iterator[None]:
        """Do all the work; a slice may end after each step."""
        while self._urgent or self._jobs or self._ready:
            # Only the jobs that wait now: continuous publishing must not delay the write phase.
            self._open_job = None
            if len(self._jobs) == 1:
                yield from self._write_to_all(self._jobs[0])
            else:
                yield from self._push_to_all(len(self._jobs))
            yield from self._write_urgent()
            # A new list: a connection with messages left is added for the next write phase, after
            # all others have had their write.
            ready, self._ready = self._ready, []
            for start in range(0, len(ready), _WRITE_CHUNK):
                for connection in ready[start : start + _WRITE_CHUNK]:
                    self._write(connection)
                yield from self._write_urgent()

    def _write_to_all(self, job: DeliveryJob) -> Iterator[None]:
        """Serve the only job."""
        connections = iter(job.targets)
        while chunk := tuple(islice(connections, _WRITE_CHUNK)):
            self._write_job(job, chunk)
            yield from self._write_urgent()
        self._drop_job()

    def _write_job(self, job: DeliveryJob, targets: Collection[ServerConnection]) -> None:
        """Write the messages of a job to the targets for which nothing waits."""
        messages, size = job.messages, job.size
        last = job.position + len(messages) - 1
        for connection in targets:
            outbox = connection.outbox
            if (
                outbox.position < job.position
                and connection.is_writable
                and outbox.takes_at_once(size)
            ):
                outbox.position = last
                self._send(connection, messages, size)
            else:
                self._push_all(connection, job)

    def _push_to_all(self, count: int) -> Iterator[None]:
        """Serve the first jobs: push their messages into the outboxes of their targets."""
        phase_bytes = pushed = 0
        for _ in range(count):
            job = self._jobs[0]
            connections = iter(job.targets)
            while chunk := tuple(islice(connections, _PUSH_CHUNK)):
                for connection in chunk:
                    self._push_all(connection, job)
                pushed += len(chunk)
                if pushed >= _PUSH_CHUNK:
                    pushed = 0
                    yield from self._write_urgent()
            self._drop_job()
            phase_bytes += job.size
            if phase_bytes >= _PHASE_BYTES:
                break

    def _push_all(self, connection: ServerConnection, job: DeliveryJob) -> None:
        """Push the messages of a job that a connection has not got yet from `_catch_up`."""
        outbox = connection.outbox
        for position, message in enumerate(job.messages, job.position):
            if outbox.position < position:
                outbox.position = position
                self._push(connection, message)

    def _drop_job(self) -> None:
        """Drop the first job, whose targets are all served: until then, `_catch_up` needs it."""
        job = self._jobs.popleft()
        self._job_bytes -= job.size
        if job.published_at is not None:
            self._counters.fan_outs.observe(perf_counter() - job.published_at)

    def _write_urgent(self) -> Iterator[None]:
        """Write to the connections with a message of their own, before the fan-out continues.

        It yields at least once, which is a step for the caller too.
        """
        while self._urgent:
            for _ in range(min(_WRITE_CHUNK, len(self._urgent))):
                self._write(self._urgent.popleft())
            yield
        yield

    def _write(self, connection: ServerConnection) -> None:
        # The connection may have become unwritable since it was queued; see `_ready`.
        if connection.is_writable:
            self._write_outbox(connection, _PHASE_BYTES)
            if connection.outbox.messages and connection.is_writable:
                self._ready.append(connection)

    def _send(
        self, connection: ServerConnection, messages: Sequence[PreparedMessage], size: int
    ) -> None:
        """Hand messages to the transport, which may buffer some of their bytes."""
        if connection.transport is None:
            return
        self._counters.deliveries += len(messages)
        self._counters.bytes += size
        try:
            connection.outbox.unsent_bytes = connection.transport.send(messages)
        except Exception:
            # A transport must not raise. If one does, only its own connection ends.
            logger.exception("writing to %r failed", connection)
            connection.abort()
        if self._drained:
            self._note_drained(connection)

    def _write_outbox(self, connection: ServerConnection, max_bytes: int) -> None:
        outbox = connection.outbox
        if connection.transport is not None and outbox.messages:
            before = outbox.queued_bytes
            messages = outbox.pop(max_bytes)
            self._send(connection, messages, before - outbox.queued_bytes)

    def _note_drained(self, connection: ServerConnection) -> None:
        """Wake `wait_drained` of a connection, which looks at its outbox again."""
        future = self._drained.pop(connection, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _catch_up(self, connection: ServerConnection) -> None:
        """Serve one connection from every waiting job, ahead of the fan-out."""
        outbox = connection.outbox
        if outbox.position >= self._position:
            return
        # A copy: a write that fails is logged, and a log handler may publish.
        for job in tuple(self._jobs):
            if connection in job.targets:
                self._push_all(connection, job)
        # An outbox that was closed on the way has the highest position, and keeps it.
        outbox.position = max(outbox.position, self._position)

    def _push(self, connection: ServerConnection, message: PreparedMessage) -> None:
        outbox = connection.outbox
        if not outbox.push(message):
            self._overflow(connection, message)
        elif len(outbox.messages) == 1 and connection.is_writable:
            # An outbox with earlier messages is in `_ready` already.
            self._ready.append(connection)

    def _overflow(self, connection: ServerConnection, message: PreparedMessage) -> None:
        outbox = connection.outbox
        if connection.is_writable:
            # The outbox is full because its write phase has not come, not because the peer is slow.
            self._write(connection)
        # The transport may have sent bytes since the last write, which makes room.
        outbox.unsent_bytes = connection.unsent_bytes
        if outbox.push(message):
            if connection.is_writable:
                self._ready.append(connection)
            return
        dropped = outbox.dropped
        if not outbox.overflow(message):
            cause = DisconnectCause.SLOW_CONSUMER
            self._close(connection, cause, CloseCode.TRY_AGAIN_LATER, "slow consumer")
        self._counters.drops += outbox.dropped - dropped
