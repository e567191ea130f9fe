"""The listener: the subscribing half of a shard."""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from redis import ResponseError

from wshub_redis.connection import ConnectionLostError, SupervisedConnection, logger
from wshub_redis.liveness import LivenessProbe
from wshub_redis.redis_py.connections import RedisConnection
from wshub_redis.redis_py.servers import Server
from wshub_redis.replicas import ReplicaError
from wshub_redis.resp import encode_command
from wshub_redis.stats import Counters
from wshub_redis.subscriptions import Subscriptions
from wshub_redis.timeouts import stall_tolerant_timeout
from wshub_redis.waiters import SubscriptionWaiters, chain

_BATCH_CHANNELS = 512
"""Maximum number of channels in one command, so that no command blocks the server for long."""

_MESSAGES_PER_TURN = 64
"""Number of messages that are read before the event loop runs other tasks: about 0.5 ms of work."""

_PING = encode_command(b"PING")


class Listener(SupervisedConnection):
    """A connection that is subscribed to the wanted channels.

    The server can refuse channels, because of the user's rights or because a slot has moved. A
    refused channel does not affect the others, unless it is essential.

    Args:
        server: The server to subscribe on.
        timeout: Maximum time for a reply of the server, in seconds.
        on_change: Called when ``is_up`` has changed, and after each failure.
        counters: The counters to update.
        is_sharded: Whether to subscribe with ``SSUBSCRIBE``.
        wanted: Returns the channels to subscribe to on a new connection.
        pattern: The pattern of `subscribe_all`: a prefix and ``*``.
        essential: The channels without which the connection is useless.
        on_message: Called with the channel and the data of each message; must not block or raise.
        probe_interval: Time in seconds without a message after which the connection is tested.
        publish_probe: Publishes a message to a channel of this listener; returns whether the
            server has it.
        on_resubscribed: Called when messages arrive of which some may have been missed: on every
            new connection, and when a channel was moved or retried.
    """

    def __init__(
        self,
        server: Server,
        timeout: float,
        on_change: Callable[[], None],
        counters: Counters,
        *,
        is_sharded: bool,
        wanted: Callable[[], Iterable[bytes]],
        pattern: bytes,
        essential: Collection[bytes],
        on_message: Callable[[bytes, bytes], None],
        probe_interval: float,
        publish_probe: Callable[[], Awaitable[bool]],
        on_resubscribed: Callable[[], None],
    ) -> None:
        super().__init__(server, timeout, on_change, counters)
        self._is_sharded = is_sharded
        self._wanted = wanted
        self._pattern = pattern
        self._has_pattern = False
        self._essential = essential
        self._on_message = on_message
        self._subscriptions = Subscriptions()
        self._waiters = SubscriptionWaiters()
        # Channels that need a command of their own: the pattern, and the channels of a batch that
        # the server has refused.
        self._one_by_one: deque[bytes] = deque()
        self._refused: set[bytes] = set()
        self._refusals: list[ResponseError] = []
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._replica_found = asyncio.Event()
        self._is_ping_due = False
        self._on_resubscribed = on_resubscribed
        self._has_missed = False
        self._liveness = LivenessProbe(
            server.address,
            interval=probe_interval,
            timeout=timeout,
            send_ping=self._request_ping,
            publish_probe=publish_probe,
        )

    # Wanted channels.

    def subscribe(self, channel: bytes) -> Future[None] | None:
        """Subscribe to a channel; see `wshub_core.Bridge.subscribe`."""
        if self._subscriptions.add(channel):
            return None
        self._refused.discard(channel)
        self._work.set()
        return self._waiters.wait(channel)

    def subscribe_all(self) -> Future[None] | None:
        """Subscribe to the pattern; see `wshub_core.Bridge.subscribe_all`."""
        self._one_by_one.append(self._pattern)
        return self.subscribe(self._pattern)

    def unsubscribe(self, channel: bytes) -> None:
        """Unsubscribe from a channel."""
        self._subscriptions.discard(channel)
        self._refused.discard(channel)
        self._work.set()
        self._waiters.wake(channel)

    def move_to(self, channel: bytes, other: "Listener") -> None:
        """Move a channel to another listener; its waiters wait for that one."""
        # The waiter is taken first, because `unsubscribe` would wake it.
        waiter = self._waiters.take(channel)
        self.unsubscribe(channel)
        subscribed = other.subscribe(channel)
        other.note_missed()
        if waiter is not None:
            chain(waiter, subscribed)

    @property
    def has_refused(self) -> bool:
        """True if the server refuses a wanted channel."""
        return bool(self._refused)

    def retry_refused(self, channel: bytes) -> None:
        """Subscribe again to a channel, if it was refused."""
        if channel in self._refused:
            self._refused.discard(channel)
            self._subscriptions.add(channel)
            self.note_missed()
            self._work.set()

    def note_missed(self) -> None:
        """Record that messages of channels that are subscribed to now may have been missed."""
        self._has_missed = True

    # The connection.

    async def close(self) -> None:
        """Close the connection for good, and wake all waiters."""
        await super().close()
        self._waiters.wake_all()

    def leave_replica(self) -> None:
        """Give the connection up, because its server has become a replica."""
        self._replica_found.set()

    async def use_connection(self, connection: RedisConnection) -> None:
        """Subscribe to all wanted channels, and read until the connection is lost."""
        self._reset()
        self.note_missed()
        self._replica_found.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(connection))
            group.create_task(self._read(connection))
            group.create_task(self._liveness.run())
            group.create_task(self._fail_on_replica())

    def note_disconnect(self) -> None:
        """Mark all wanted channels as inactive; the next connection subscribes to them again."""
        self._reset()

    def _reset(self) -> None:
        wanted = tuple(self._wanted())
        self._subscriptions.reset(wanted)
        self._has_pattern = False
        self._one_by_one = deque(each for each in wanted if each == self._pattern)
        self._refused.clear()
        self._refusals.clear()

    async def _fail_on_replica(self) -> None:
        await self._replica_found.wait()
        raise ReplicaError(self._server.address)

    # Commands.

    def _request_ping(self) -> None:
        self._is_ping_due = True
        self._work.set()

    async def _write(self, connection: RedisConnection) -> None:
        while True:
            while self._subscriptions.has_due or self._one_by_one:
                subscribe, unsubscribe = self._take_due()
                # One batch after the other: an error reply does not name its channels, so only the
                # batch under way can be meant.
                async with stall_tolerant_timeout(self._timeout):
                    await connection.write(self._encode(subscribe, unsubscribe))
                    while self._subscriptions.unconfirmed > self._count_refused(subscribe):
                        await self._wait_progress()
                if self._refusals:
                    self._handle_refusals(subscribe)
            if not self.is_up:
                self.note_up()
            if self._has_missed:
                self._has_missed = False
                self._on_resubscribed()
            if self._is_ping_due:
                self._is_ping_due = False
                async with stall_tolerant_timeout(self._timeout):
                    await connection.write(_PING)
            self._work.clear()
            self._refusals.clear()
            # New work may have come while the PING was written.
            if not self._subscriptions.has_due and not self._is_ping_due:
                await self._work.wait()

    def _take_due(self) -> tuple[list[bytes], list[bytes]]:
        while self._one_by_one:
            channel = self._one_by_one.popleft()
            if self._subscriptions.request(channel):
                return [channel], []
        return self._subscriptions.take_due(_BATCH_CHANNELS)

    def _encode(self, subscribe: list[bytes], unsubscribe: list[bytes]) -> list[bytes]:
        if subscribe == [self._pattern]:
            return [encode_command(b"PSUBSCRIBE", self._pattern)]
        if self._is_sharded:
            # All channels of one command would have to be in the same slot.
            return [
                *(encode_command(b"SSUBSCRIBE", channel) for channel in subscribe),
                *(encode_command(b"SUNSUBSCRIBE", channel) for channel in unsubscribe),
            ]
        # Without channels, UNSUBSCRIBE would end all subscriptions.
        commands = ((b"SUBSCRIBE", subscribe), (b"UNSUBSCRIBE", unsubscribe))
        return [encode_command(name, *channels) for name, channels in commands if channels]

    def _count_refused(self, subscribe: list[bytes]) -> int:
        """Return the number of channels of a batch that will not be confirmed."""
        if not self._refusals:
            return 0
        # Sharded, each channel has a command of its own. Otherwise one error refuses the batch.
        return len(self._refusals) if self._is_sharded else len(subscribe)

    def _handle_refusals(self, subscribe: list[bytes]) -> None:
        """Request the channels of a refused batch one by one; record a refused single channel."""
        refusal = self._refusals[0]
        self._refusals.clear()
        unconfirmed = self._subscriptions.abandon(subscribe)
        if len(subscribe) > 1 and not self._is_sharded:
            self._one_by_one.extend(unconfirmed)
            return
        for channel in unconfirmed:
            self._note_refused(channel, refusal)

    def _note_refused(self, channel: bytes, why: Exception) -> None:
        if channel in self._essential:
            raise why
        logger.warning("%s refuses %r: %s", self._server.address, channel.decode(), why)
        self._refused.add(channel)

    async def _wait_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    # Replies and messages.

    async def _read(self, connection: RedisConnection) -> None:
        taken = 0
        while True:
            try:
                reply = await connection.read()
            except ResponseError as exc:
                self._refusals.append(exc)
                self._progress.set()
                # A server that refuses a command responds, and does so in place of a PONG.
                self._liveness.note_pong()
            else:
                self._take_reply(reply)
            taken += 1
            # Data that has been received already is read without waiting, so a flood of messages
            # would keep the event loop from running other tasks.
            if taken % _MESSAGES_PER_TURN == 0:
                await asyncio.sleep(0)

    def _take_reply(self, reply: Any) -> None:
        # No class patterns such as bytes(channel): with Python 3.11 they add 5 µs to each message.
        match reply:
            case [b"message" | b"smessage", channel, data]:
                self._liveness.note_message()
                # From the confirmation of the pattern on, the server sends each message for the
                # channel and once more for the pattern.
                if not (self._has_pattern and channel.startswith(self._pattern[:-1])):
                    self._on_message(channel, data)
            case [b"pmessage", _, channel, data]:
                self._liveness.note_message()
                self._on_message(channel, data)
            case [b"subscribe" | b"ssubscribe" | b"psubscribe" as kind, channel, _]:
                self._has_pattern |= kind == b"psubscribe"
                if self._subscriptions.confirm(channel):
                    self._waiters.wake(channel)
                self._progress.set()
            case [b"sunsubscribe", channel, _] if self._subscriptions.note_ended(channel):
                # In a cluster, a node ends subscriptions to a slot that it loses.
                self._note_refused(channel, ConnectionLostError("its slot has moved"))
            case [b"pong", _] | b"PONG":
                self._liveness.note_pong()
