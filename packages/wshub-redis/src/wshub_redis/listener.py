"""The listening side of a bridge: subscribed to exactly what its hub needs."""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from wshub_redis.counters import Counters
from wshub_redis.link import Link, LinkLostError, logger
from wshub_redis.patience import patient_timeout
from wshub_redis.server import ReplicaError, Server
from wshub_redis.subscriptions import Subscriptions

_BATCH_CHANNELS = 512
"""How many channels are asked for at once, so that no command holds the server up."""

_MESSAGES_PER_TURN = 64
"""How many messages are taken before others get a turn on the event loop: about 0.5 ms of work."""


class Listener(Link):
    """Hears what is published to the channels it is subscribed to.

    A connection on which nothing has come for a while is put to the test: a message to a channel
    of its own has to come back. One that is healthy and hears nothing is replaced.

    Args:
        server: Where to subscribe.
        timeout: How long the server may take over an answer, in seconds.
        on_change: Called when ``is_up`` has changed.
        counters: Where is counted.
        is_sharded: Whether to subscribe with ``SSUBSCRIBE``.
        wanted: Returns the channels to be subscribed to on a new connection.
        pattern: The pattern of `subscribe_all`: a prefix and ``*``.
        essential: Those without which a connection is of no use. Others may be refused.
        on_message: Called with each channel and message; must not block and must not raise.
        probe_interval: After how many seconds without a message the connection is put to the test.
        probe: Publishes a message that has to come back; returns whether the server has it.
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
        probe: Callable[[], Awaitable[bool]],
    ) -> None:
        super().__init__(server, timeout, on_change, counters)
        self._is_sharded = is_sharded
        self._wanted = wanted
        self._pattern = pattern
        self._hears_all = False
        self._essential = essential
        self._on_message = on_message
        self._probe_interval = probe_interval
        self._probe = probe
        self._subscriptions = Subscriptions()
        self._waiters: dict[bytes, Future[None]] = {}
        # Asked for one by one: the pattern, and channels of a batch that was refused.
        self._one_by_one: deque[bytes] = deque()
        self._refused: set[bytes] = set()
        self._refusals: list[ResponseError] = []
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._is_on_replica = asyncio.Event()
        self._is_ping_due = False
        self._is_tested = False
        self._heard = 0
        self._pongs = 0

    def subscribe(self, channel: bytes) -> Future[None] | None:
        """Subscribe to a channel; see `wshub_core.Bridge.subscribe`."""
        if self._subscriptions.add(channel):
            return None
        self._refused.discard(channel)
        self._work.set()
        if channel not in self._waiters:
            self._waiters[channel] = self._loop.create_future()
        return self._waiters[channel]

    def subscribe_all(self) -> Future[None] | None:
        """Subscribe to the pattern; see `wshub_core.Bridge.subscribe_all`."""
        self._one_by_one.append(self._pattern)
        return self.subscribe(self._pattern)

    def unsubscribe(self, channel: bytes) -> None:
        """End a subscription."""
        self._subscriptions.discard(channel)
        self._refused.discard(channel)
        self._work.set()
        self._wake(channel)

    async def close(self) -> None:
        """End the connection; who waits for a channel need not any more."""
        await super().close()
        for channel in tuple(self._waiters):
            self._wake(channel)

    def leave_replica(self) -> None:
        """Give the connection up: its server has become a replica."""
        self._is_on_replica.set()

    async def serve(self, connection: AbstractConnection) -> None:
        """Subscribe to all that is wanted, and hear it, until the connection is lost."""
        self._start_anew()
        self._is_on_replica.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(connection))
            group.create_task(self._read(connection))
            group.create_task(self._watch())
            group.create_task(self._wait_replica())

    def note_lost(self) -> None:
        """Nothing is carried any more; what is wanted is asked for again on the next connection."""
        self._start_anew()

    def _start_anew(self) -> None:
        wanted = tuple(self._wanted())
        self._subscriptions.reset(wanted)
        self._hears_all = False
        self._one_by_one = deque(each for each in wanted if each == self._pattern)
        self._refused.clear()
        self._refusals.clear()

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            while self._subscriptions.has_changes or self._one_by_one:
                subscribe, unsubscribe = self._take_changes()
                async with patient_timeout(self._timeout):
                    commands = self._pack(connection, subscribe, unsubscribe)
                    await connection.send_packed_command(commands, check_health=False)
                    while self._subscriptions.unanswered > self._count_refused(subscribe):
                        await self._wait_progress()
                if self._refusals:
                    self._take_refusals(subscribe)
            if not self.is_up:
                self.note_up()
            if self._is_ping_due:
                self._is_ping_due = False
                ping = connection.pack_command("PING")
                async with patient_timeout(self._timeout):
                    await connection.send_packed_command(ping, check_health=False)
            self._work.clear()
            self._refusals.clear()
            if not self._subscriptions.has_changes and not self._is_ping_due:
                await self._work.wait()

    def _take_changes(self) -> tuple[list[bytes], list[bytes]]:
        while self._one_by_one:
            channel = self._one_by_one.popleft()
            if self._subscriptions.ask(channel):
                return [channel], []
        return self._subscriptions.take_changes(_BATCH_CHANNELS)

    def _pack(
        self, connection: AbstractConnection, subscribe: list[bytes], unsubscribe: list[bytes]
    ) -> list[bytes]:
        commands: list[tuple[bytes, ...]]
        if subscribe == [self._pattern]:
            commands = [(b"PSUBSCRIBE", self._pattern)]
        elif self._is_sharded:
            # One command cannot name channels of several slots.
            commands = [(b"SSUBSCRIBE", channel) for channel in subscribe]
            commands += [(b"SUNSUBSCRIBE", channel) for channel in unsubscribe]
        else:
            commands = [(b"SUBSCRIBE", *subscribe), (b"UNSUBSCRIBE", *unsubscribe)]
        return connection.pack_commands(each for each in commands if len(each) > 1)

    def _count_refused(self, subscribe: list[bytes]) -> int:
        """Return how many channels of a batch cannot be confirmed any more."""
        if not self._refusals:
            return 0
        return len(self._refusals) if self._is_sharded else len(subscribe)

    def _take_refusals(self, subscribe: list[bytes]) -> None:
        """Ask for a batch that was refused one by one, and do without what is refused then."""
        refusal = self._refusals[0]
        self._refusals.clear()
        left = self._subscriptions.give_up(subscribe)
        if len(subscribe) > 1 and not self._is_sharded:
            self._one_by_one.extend(left)
            return
        for channel in left:
            self._note_refused(channel, refusal)

    def _note_refused(self, channel: bytes, why: Exception) -> None:
        if channel in self._essential:
            raise why
        logger.warning("%s refuses %r: %s", self._server.address, channel.decode(), why)
        self._refused.add(channel)

    async def _read(self, connection: AbstractConnection) -> None:
        taken = 0
        while True:
            try:
                reply = await connection.read_response(
                    disable_decoding=True, disconnect_on_error=False
                )
            except ResponseError as exc:
                # One that refuses something is alive, at least.
                self._refusals.append(exc)
                reply = [b"pong", b""]
            match reply:
                case [b"message" | b"smessage", channel, data]:
                    self._heard += 1
                    # From the confirmation of the pattern on, the server sends it once more.
                    if not (self._hears_all and channel.startswith(self._pattern[:-1])):
                        self._on_message(channel, data)
                case [b"pmessage", _, channel, data]:
                    self._heard += 1
                    self._on_message(channel, data)
                case [b"subscribe" | b"ssubscribe" | b"psubscribe" as kind, channel, _]:
                    self._hears_all |= kind == b"psubscribe"
                    if self._subscriptions.confirm(channel):
                        self._wake(channel)
                    self._progress.set()
                case [b"sunsubscribe", channel, _] if self._subscriptions.lose(channel):
                    self._note_refused(channel, LinkLostError("its slot has moved"))
                case [b"pong", _] | b"PONG":
                    self._pongs += 1
            if self._is_tested or self._refusals:
                self._progress.set()
            taken += 1
            # What has been received already is read without waiting.
            if taken % _MESSAGES_PER_TURN == 0:
                await asyncio.sleep(0)

    async def _watch(self) -> None:
        while True:
            heard = self._heard
            await asyncio.sleep(self._probe_interval)
            if self._heard == heard:
                await self._put_to_test()

    async def _wait_replica(self) -> None:
        await self._is_on_replica.wait()
        raise ReplicaError(self._server.address)

    async def _put_to_test(self) -> None:
        heard, pongs = self._heard, self._pongs
        self._is_tested = True
        self._is_ping_due = True
        self._work.set()
        is_published = False
        try:
            async with patient_timeout(self._timeout):
                is_published = await self._probe()
                while self._heard == heard and (is_published or self._pongs == pongs):
                    await self._wait_progress()
        except TimeoutError:
            if self._pongs == pongs:
                raise LinkLostError(f"{self._server.address} is silent") from None
            # Whether the probe was published is the sender's trouble.
            if is_published:
                raise LinkLostError(
                    f"{self._server.address} does not pass on what is published"
                ) from None
        finally:
            self._is_tested = False

    @property
    def has_refused(self) -> bool:
        """Whether the server does not let this hub have a channel, or not any more."""
        return bool(self._refused)

    def ask_refused_again(self, channel: bytes) -> None:
        """Ask for a channel once more, if it was refused."""
        if channel in self._refused:
            self._refused.discard(channel)
            self._subscriptions.add(channel)
            self._work.set()

    def hand_over(self, channel: bytes, other: "Listener") -> None:
        """Have another listener carry a channel, and those who wait for it wait for that one."""
        waiter = self._waiters.pop(channel, None)
        self.unsubscribe(channel)
        carried = other.subscribe(channel)
        if waiter is not None and carried is None:
            waiter.set_result(None)
        elif waiter is not None and carried is not None:
            carried.add_done_callback(partial(_pass_on, waiter))

    def _wake(self, channel: bytes) -> None:
        waiter = self._waiters.pop(channel, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()


def _pass_on(waiter: Future[None], _: Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
