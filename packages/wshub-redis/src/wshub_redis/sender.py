"""The sender: the publishing half of a shard."""

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from redis import ResponseError

from wshub_core import BridgeUnavailableError
from wshub_redis.connection import ConnectionLostError, SupervisedConnection, logger
from wshub_redis.gathering import Gathering
from wshub_redis.losses import LossLog
from wshub_redis.publish_queue import PublishQueue, QueuedMessage
from wshub_redis.publish_script import PublishScript
from wshub_redis.redis_py.connections import RedisConnection
from wshub_redis.redis_py.refusals import is_misdirected, is_read_only, is_script_missing
from wshub_redis.redis_py.servers import Server
from wshub_redis.replicas import HELLO, ReplicaError, is_replica
from wshub_redis.stats import Counters
from wshub_redis.timeouts import stall_tolerant_timeout

REPLAY_DELAY_SECONDS = 0.5
"""Time in seconds for which queued messages wait on after a reconnect. The other hubs may have
lost their connections too, and reconnect after random delays."""

_BATCH_BYTES = 65_536
"""Size in bytes of the messages of one round trip. A slow network has to transfer them within the
timeout."""

_EXPIRY_SECONDS = 0.1
"""Minimum time in seconds between two searches for expired messages."""

Confirmation: TypeAlias = Future[None] | None
"""A future that is done when the server has a message; None if no caller waits."""

OutgoingMessage: TypeAlias = QueuedMessage[Future[None]]


class Sender(SupervisedConnection):
    """A connection that publishes messages in order.

    Messages that are published during a round trip are sent together in the next one. A round trip
    to a server on the same machine is so short that few messages gather in it, and it costs as much
    as several messages. So after a round trip with several messages, the next one waits for a
    millisecond, unless a publisher waits for a confirmation.

    When the connection is lost, unconfirmed messages wait for the next connection, and are sent
    again, for up to ``replay_seconds`` after they were published. Hubs drop the second copy of a
    message.

    Messages with history are appended and published by a script. An unconfirmed one waits for any
    time: only the script can tell whether the history has it.

    The class is one unit, although it has many methods: writing, reading and the loss of a
    connection all move messages of one queue.

    Args:
        server: The server to publish on.
        timeout: Maximum time for a reply of the server, in seconds.
        on_change: Called when ``is_up`` has changed, and after each failure.
        counters: The counters to update.
        command: ``PUBLISH`` or ``SPUBLISH``.
        replay_seconds: Maximum time for which messages wait for a connection, in seconds; 0 to
            drop them at once.
        max_queue_bytes: Maximum size in bytes of the messages that wait or are unconfirmed.
        before_replay: Awaited on a new connection before queued messages are sent.
        role_interval: Time in seconds between two checks that the server is no replica.
        on_replica: Called when the server has become a replica.
        on_unstored: Called with the channel on Redis and the payload of a message that no history
            has or will have; None if the sender gets no messages with history.

    Attributes:
        queue: The messages that the server has not confirmed.
        refusals: Number of messages that the server has refused.
    """

    def __init__(
        self,
        server: Server,
        timeout: float,
        on_change: Callable[[], None],
        counters: Counters,
        *,
        command: str,
        replay_seconds: float,
        max_queue_bytes: int,
        before_replay: Callable[[], Awaitable[None]],
        role_interval: float,
        on_replica: Callable[[], None],
        on_unstored: Callable[[bytes, bytes], None] | None = None,
    ) -> None:
        super().__init__(server, timeout, on_change, counters)
        self.refusals = 0
        self._losses = LossLog()
        self._command_head = b"*3\r\n$%d\r\n%b\r\n" % (len(command), command.encode())
        self._replay_seconds = replay_seconds
        self._max_queue_bytes = max_queue_bytes
        self._before_replay = before_replay
        self._role_interval = role_interval
        self._on_replica = on_replica
        self._on_unstored = on_unstored
        self._script = PublishScript()
        self.queue: PublishQueue[Future[None]] = PublishQueue(max_queue_bytes)
        self._work = asyncio.Event()
        self._gathering = Gathering()
        self._left = asyncio.Event()
        self._progress = asyncio.Event()
        self._expiry: asyncio.TimerHandle | None = None

    async def publish(self, channel: bytes, envelope: bytes, *, is_probe: bool = False) -> None:
        """Queue a message, and wait until the server has it.

        Args:
            channel: The channel on Redis.
            envelope: The message in its envelope.
            is_probe: Whether the message is internal and is not counted.

        Raises:
            BridgeUnavailableError: The server does not get the message, or has not confirmed it.
        """
        confirmation: Future[None] = self._loop.create_future()
        self.send(channel, envelope, confirmation, is_probe=is_probe)
        await confirmation

    def send(
        self,
        channel: bytes,
        envelope: bytes,
        confirmation: Confirmation = None,
        *,
        is_probe: bool = False,
    ) -> None:
        """Queue a message without waiting; a message that does not fit is lost, and counted.

        Args:
            channel: The channel on Redis.
            envelope: The message in its envelope.
            confirmation: Is done when the server has the message; gets a `BridgeUnavailableError`
                if the message is lost.
            is_probe: Whether the message is internal and is not counted.
        """
        # Formatted in one step, because `encode_command` takes three times as long.
        command = b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            self._command_head,
            len(channel),
            channel,
            len(envelope),
            envelope,
        )
        self._push(QueuedMessage(channel, command, self._loop.time(), confirmation, is_probe))

    def append(
        self, channel: bytes, call: bytes, payload: bytes, confirmation: Confirmation = None
    ) -> None:
        """Queue a message with history without waiting.

        Args:
            channel: The channel on Redis.
            call: The arguments of the script; see `PublishScript.encode_call`.
            payload: The message.
            confirmation: As for `send`.
        """
        item = QueuedMessage(channel, call, self._loop.time(), confirmation, payload=payload)
        self._push(item)

    def _push(self, item: OutgoingMessage) -> None:
        if not self.is_up and self._replay_seconds <= 0:
            self._lose(item, f"{self._server.address} cannot be reached ({self.reason})")
        elif not self.queue.push(item):
            self._lose(item, self._full_queue_reason())
        elif self.is_up:
            self._work.set()
            if item.confirmation is not None or self.queue.size >= _BATCH_BYTES:
                self._gathering.end()
        else:
            self._schedule_expiry()

    def take_unconfirmed(self) -> list[OutgoingMessage]:
        """Remove and return all unconfirmed messages, for the sender that replaces this one."""
        return self.queue.drop_all()

    def take_displaced(self, is_here: Callable[[bytes], bool]) -> list[OutgoingMessage]:
        """Remove and return the unconfirmed messages whose channels belong to another sender.

        Args:
            is_here: Returns whether a channel belongs to this sender.
        """

        def stays(item: OutgoingMessage) -> bool:
            return item.is_probe or is_here(item.channel)

        if all(map(stays, self.queue)):
            return []
        if self.queue.has_in_flight:
            # Their replies are still to come. The messages could not be sent in order elsewhere.
            self._left.set()
        return self.queue.take_displaced(stays)

    def requeue(self, item: OutgoingMessage) -> None:
        """Queue a message that another sender has given away."""
        if not self.queue.push(item):
            self._lose(item, self._full_queue_reason())
        self._work.set()

    async def drain(self) -> None:
        """Wait while the connection is up and the queue is more than half full."""
        # Half, so that callers go on while there is still work for the connection.
        while self.is_up and self.queue.size > self._max_queue_bytes // 2:
            self._gathering.end()
            await self._wait_progress()

    async def flush(self) -> None:
        """Wait while the connection is up and messages are unconfirmed."""
        while self.is_up and len(self.queue):
            self._gathering.end()
            await self._wait_progress()

    async def close(self) -> None:
        """Close the connection for good; queued messages are lost."""
        await super().close()
        # Messages in flight are lost, too: their confirmations cannot arrive any more.
        for item in self.queue.drop_all():
            self._lose(item, "the connection was closed before they could be sent")
        self._losses.report()
        self._progress.set()
        if self._expiry is not None:
            self._expiry.cancel()

    async def use_connection(self, connection: RedisConnection) -> None:
        """Send queued and new messages until the connection is lost."""
        self._left.clear()
        if self._on_unstored is not None:
            async with stall_tolerant_timeout(self._timeout):
                await self._script.prepare(connection)
        # The sender is not up during this wait, so that new messages queue up behind the old ones.
        if self.queue.has_waiting:
            await self._before_replay()
        self.note_up()
        self._losses.report()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(connection))
            group.create_task(self._read(connection))
            group.create_task(self._check_role_regularly())
            group.create_task(self._fail_when_left())

    def note_disconnect(self) -> None:
        """Keep unconfirmed messages for the next connection, or lose them."""
        # Redis may have passed these messages on. The other hubs drop the second copy.
        self.queue.requeue_in_flight()
        if self._replay_seconds > 0:
            self._schedule_expiry()
        else:
            self._lose_queued(float("inf"), f"the connection was lost ({self.reason})")
        self._progress.set()

    async def _write(self, connection: RedisConnection) -> None:
        while True:
            while self.queue.has_waiting:
                commands: list[bytes] = []
                batch = self.queue.take(_BATCH_BYTES)
                self._gathering.allow()
                for item in batch:
                    if item.payload is None:
                        commands.append(item.command)
                    else:
                        commands += self._script.complete(
                            item.command, item.payload, item.may_have_arrived
                        )
                # One timeout for the batch: it detects a server that has stopped.
                async with stall_tolerant_timeout(self._timeout):
                    await connection.write(commands)
                    while self.queue.has_in_flight:
                        await self._wait_progress()
                if len(batch) > 1 and self.queue.size < _BATCH_BYTES:
                    await self._gathering.wait()
            self._work.clear()
            await self._work.wait()

    async def _read(self, connection: RedisConnection) -> None:
        # This task also reads while no reply is due, so that a closed connection is noticed at
        # once.
        while True:
            try:
                reply = await connection.read()
                refusal = None
            except ResponseError as exc:
                reply, refusal = None, exc
            if not self.queue.has_in_flight:
                raise ConnectionLostError(f"{self._server.address} sent an unexpected reply")
            item = self.queue.pop_answered()
            if is_replica(reply):
                self._on_replica()
                raise ReplicaError(self._server.address)
            if refusal is None:
                self._confirm(item, reply)
            else:
                self._note_refusal(item, refusal)
            if not self.queue.has_in_flight:
                self._progress.set()

    async def _fail_when_left(self) -> None:
        await self._left.wait()
        raise ConnectionLostError("messages have moved to another node")

    async def _check_role_regularly(self) -> None:
        # A primary that becomes a replica keeps its connections, and still accepts messages.
        while True:
            await asyncio.sleep(self._role_interval)
            # The role check goes through the queue, because replies arrive in order. If the queue
            # is full, this check is left out.
            self.queue.push(QueuedMessage(b"", HELLO, self._loop.time(), None, is_probe=True))
            self._work.set()

    def _confirm(self, item: OutgoingMessage, reply: object) -> None:
        self._losses.note_success(self._loop.time())
        if item.payload is not None and isinstance(reply, bytes):
            # Hubs find the message in the history when they compare their positions.
            self.refusals += 1
            refusal = reply.decode(errors="replace")
            why = f"{self._server.address} stores messages and does not pass them on: {refusal}"
            logger.warning("%s", why)
            self._fail_confirmation(item, why, may_have_arrived=True)
        self._counters.published += not item.is_probe
        if item.confirmation is not None and not item.confirmation.done():
            item.confirmation.set_result(None)

    def _note_refusal(self, item: OutgoingMessage, refusal: ResponseError) -> None:
        self.refusals += 1
        is_missing = is_script_missing(refusal)
        if item.payload is not None and (is_missing or is_misdirected(refusal)):
            # The message waits for a connection that can send it.
            self.queue.put_back(item)
            if is_missing:
                self._script.note_missing()
            if is_read_only(refusal):
                self._on_replica()
                raise ReplicaError(self._server.address)
            raise ConnectionLostError(f"{self._server.address} refuses: {refusal}")
        # The reply proves that no hub has the message.
        why = f"{self._server.address} refuses to publish: {type(refusal).__name__} {refusal}"
        self._lose(item, why, may_have_arrived=False)

    def _full_queue_reason(self) -> str:
        return f"the publish queue is full ({self._max_queue_bytes} bytes)"

    def _lose(
        self, item: OutgoingMessage, why: str, *, may_have_arrived: bool | None = None
    ) -> None:
        """Count a message as lost, and tell its publisher and the clients of this hub.

        Args:
            item: The message.
            why: The reason.
            may_have_arrived: Whether Redis may have the message; by default, whether it was sent.
        """
        if may_have_arrived is None:
            may_have_arrived = item.may_have_arrived
        if not item.is_probe:
            self._counters.lost += 1
            self._losses.note_loss(why, self._loop.time())
        self._fail_confirmation(item, why, may_have_arrived)
        # If a history may have the message, clients may have received it.
        if item.payload is not None and not may_have_arrived:
            assert self._on_unstored is not None, "only such senders get messages with history"
            self._on_unstored(item.channel, item.payload)

    def _fail_confirmation(self, item: OutgoingMessage, why: str, may_have_arrived: bool) -> None:
        if item.confirmation is not None and not item.confirmation.done():
            item.confirmation.set_exception(
                BridgeUnavailableError(
                    f"not confirmed by Redis: {why}", may_have_arrived=may_have_arrived
                )
            )
        item.confirmation = None

    def _lose_queued(self, until: float, why: str) -> None:
        for item in self.queue.overdue(until):
            # The message stays, but its publisher must not wait for any time.
            self._fail_confirmation(item, why, may_have_arrived=True)
        for item in self.queue.drop_until(until):
            self._lose(item, why)

    def _schedule_expiry(self) -> None:
        oldest = self.queue.oldest
        if self._expiry is None and oldest is not None:
            # Not earlier than after the minimum, so that one timer serves many messages.
            due = max(oldest + self._replay_seconds, self._loop.time() + _EXPIRY_SECONDS)
            self._expiry = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        if not self.is_up:
            why = f"no connection for {self._replay_seconds:g} s ({self.reason})"
            self._lose_queued(self._loop.time() - self._replay_seconds, why)
            self._schedule_expiry()

    async def _wait_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()
