"""The delivery of messages: from fan-out jobs into outboxes, and from outboxes to transports.

This module alone writes to outboxes. Long work is cut into slices of about 2 ms, so that the event
loop stays responsive.
"""

import math
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

from wshub_core.connections.connection import EndConnection, ServerConnection
from wshub_core.logs import get_logger
from wshub_core.protocol.counters import Counters
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.values.closing import CloseCode, DisconnectCause

logger = get_logger("wshub.delivery")

_SLICE_SECONDS = 0.002
"""How long one slice may hold the event loop. Others wait for at most this and one chunk."""

_PUSH_CHUNK = 256
"""How many outboxes are filled between two looks at the clock: about 0.1 ms of work."""

_WRITE_CHUNK = 16
"""How many sockets are written between two looks at the clock: about 0.2 ms of work."""


_PHASE_BYTES = 131_072
"""How many bytes go into one outbox, and from there to the transport, before the next phase, but
for one more message. What the transport has cannot be dropped any more, so it gets no more."""


_MOST_JOB_BYTES = 8_388_608
"""How many bytes of messages may wait to be fanned out before publishing does the work itself."""


class Loop(Protocol):
    """What the fan-out needs of an event loop."""

    def time(self) -> float:
        """Return the time in seconds."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call back in the next round of the loop."""


class _Job(NamedTuple):
    position: int
    message: PreparedMessage
    targets: Collection[ServerConnection]


class Delivery:
    """Delivers messages to connections, in one order for each, without holding the event loop.

    Work alternates between two phases: first the messages that wait go into the outboxes of their
    targets, then every outbox that has something goes out with one write. What is published during
    one phase is taken up by the next, so messages that come close together share a write.

    A message to a single connection does not wait for the others' turn: that connection alone is
    brought up to date, so its order holds, and it is written before the work for all goes on.

    Args:
        loop: The event loop to work on.
        counters: Where drops are counted.
        end: Ends a connection whose outbox overflows under the policy ``close``.
    """

    def __init__(self, loop: Loop, counters: Counters, end: EndConnection) -> None:
        self._loop = loop
        self._counters = counters
        self._end = end
        self._jobs: deque[_Job] = deque()
        self._position = 0
        self._job_bytes = 0
        self._ready: list[ServerConnection] = []
        self._urgent: deque[ServerConnection] = deque()
        self._steps: Iterator[None] | None = None
        self._is_scheduled = False
        self._is_running = False

    def send_all(self, targets: Collection[ServerConnection], message: PreparedMessage) -> None:
        """Queue a message for many connections.

        Args:
            targets: A collection that does not change and finds members quickly.
            message: What to deliver.
        """
        if not targets:
            return
        self._position += 1
        self._jobs.append(_Job(self._position, message, targets))
        self._job_bytes += message.size
        if self._job_bytes > _MOST_JOB_BYTES and not self._is_running:
            # Who publishes faster than can be delivered does the work instead of hoarding it.
            self._run(math.inf)
        else:
            self._schedule()

    def send_one(self, connection: ServerConnection, message: PreparedMessage) -> None:
        """Queue a message for one connection, behind all that was queued for it before."""
        self._catch_up(connection)
        self._push(connection, message)
        self._urgent.append(connection)
        self._schedule()

    def note_progress(self, connection: ServerConnection) -> bool:
        """Return whether the transport has passed on bytes since the last write or call."""
        before = connection.outbox.unsent_bytes
        connection.outbox.unsent_bytes = connection.unsent_bytes
        return connection.outbox.unsent_bytes < before

    def resume(self, connection: ServerConnection) -> None:
        """Continue with a connection whose transport has passed on all its bytes."""
        connection.outbox.unsent_bytes = 0
        self._ready.append(connection)
        self._schedule()

    def discard(self, connection: ServerConnection) -> None:
        """Drop the messages that wait for a connection, and refuse further ones."""
        connection.outbox.close()

    def flush(self, connection: ServerConnection) -> None:
        """Hand all that waits for a connection to its transport, now, even if that has to wait."""
        self._catch_up(connection)
        self._write_outbox(connection, sys.maxsize)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run_slice)

    def _run_slice(self) -> None:
        self._is_scheduled = False
        self._run(self._loop.time() + _SLICE_SECONDS)
        if self._steps is not None:
            self._schedule()

    def _run(self, deadline: float) -> None:
        """Work until the deadline, or until there is nothing left to do."""
        self._is_running = True
        steps, self._steps = self._steps or self._work(), None
        try:
            for _ in steps:
                if self._loop.time() >= deadline:
                    self._steps = steps
                    break
        finally:
            self._is_running = False

    def _work(self) -> Iterator[None]:
        """Do all the work there is; each step is a moment at which a slice may end."""
        while self._urgent or self._jobs or self._ready:
            phase_bytes = 0
            # Only what waits now: who keeps publishing must not keep the others from being written.
            for _ in range(len(self._jobs)):
                position, message, targets = self._jobs[0]
                connections = iter(targets)
                while chunk := tuple(islice(connections, _PUSH_CHUNK)):
                    for connection in chunk:
                        # Served already if it was brought up to date out of turn.
                        if connection.outbox.position < position:
                            connection.outbox.position = position
                            self._push(connection, message)
                    yield from self._write_urgent()
                self._jobs.popleft()
                self._job_bytes -= message.size
                phase_bytes += message.size
                if phase_bytes >= _PHASE_BYTES:
                    break
            yield from self._write_urgent()
            ready, self._ready = self._ready, []
            for start in range(0, len(ready), _WRITE_CHUNK):
                for connection in ready[start : start + _WRITE_CHUNK]:
                    self._write(connection)
                yield from self._write_urgent()

    def _write_urgent(self) -> Iterator[None]:
        """Write to those that got a message of their own, before the work for all goes on."""
        while self._urgent:
            for _ in range(min(_WRITE_CHUNK, len(self._urgent))):
                self._write(self._urgent.popleft())
            yield
        yield

    def _write(self, connection: ServerConnection) -> None:
        # One that became unwritable meanwhile comes back through `resume`.
        if connection.is_writable:
            try:
                self._write_outbox(connection, _PHASE_BYTES)
            except Exception:
                # No transport should raise; if one does, that is the end of it and of no other.
                logger.exception("writing to %r failed", connection)
                connection.abort()
            if connection.outbox.messages and connection.is_writable:
                self._ready.append(connection)

    def _write_outbox(self, connection: ServerConnection, max_bytes: int) -> None:
        """Hand waiting messages to the transport, which may hold some of the bytes for now."""
        outbox = connection.outbox
        if connection.transport is not None and outbox.messages:
            before = outbox.queued_bytes
            messages = outbox.take(max_bytes)
            self._counters.deliveries += len(messages)
            self._counters.bytes += before - outbox.queued_bytes
            outbox.unsent_bytes = connection.transport.send(messages)

    def _catch_up(self, connection: ServerConnection) -> None:
        """Serve one connection from every waiting job, out of turn."""
        outbox = connection.outbox
        if outbox.position >= self._position:
            return
        # A copy, because a log handler may publish when a connection is thrown out on the way.
        for position, message, targets in tuple(self._jobs):
            if position > outbox.position and connection in targets:
                self._push(connection, message)
        outbox.position = max(outbox.position, self._position)

    def _push(self, connection: ServerConnection, message: PreparedMessage) -> None:
        outbox = connection.outbox
        if not outbox.push(message):
            self._overflow(connection, message)
        elif len(outbox.messages) == 1 and connection.is_writable:
            # Its first message makes it ready; one that is not writable comes back by `resume`.
            self._ready.append(connection)

    def _overflow(self, connection: ServerConnection, message: PreparedMessage) -> None:
        outbox = connection.outbox
        if connection.is_writable:
            # It was full because it was not its turn yet, and not because the client is slow.
            self._write(connection)
        # The transport may have passed on some of what it held.
        outbox.unsent_bytes = connection.unsent_bytes
        if outbox.push(message):
            if connection.is_writable:
                self._ready.append(connection)
            return
        dropped = outbox.dropped
        if not outbox.overflow(message) and self._end(
            connection, DisconnectCause.SLOW_CONSUMER, CloseCode.TRY_AGAIN_LATER, "slow consumer"
        ):
            logger.warning("%r reads too slowly, closing it", connection)
        self._counters.drops += outbox.dropped - dropped
