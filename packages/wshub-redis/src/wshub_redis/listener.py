"""The listening side of a bridge: subscribed to exactly what its hub needs."""

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable, Iterable

from redis.asyncio.connection import AbstractConnection

from wshub_redis.counters import Counters
from wshub_redis.link import Link, LinkLostError
from wshub_redis.server import Server
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
        on_message: Callable[[bytes, bytes], None],
        probe_interval: float,
        probe: Callable[[], Awaitable[bool]],
    ) -> None:
        super().__init__(server, timeout, on_change, counters)
        self._is_sharded = is_sharded
        self._wanted = wanted
        self._on_message = on_message
        self._probe_interval = probe_interval
        self._probe = probe
        self._subscriptions = Subscriptions()
        self._waiters: dict[bytes, Future[None]] = {}
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._is_ping_due = False
        self._is_tested = False
        self._heard = 0
        self._pongs = 0

    def subscribe(self, channel: bytes) -> Future[None] | None:
        """Subscribe to a channel; see `wshub_core.Bridge.subscribe`."""
        if self._subscriptions.add(channel):
            return None
        self._work.set()
        if channel not in self._waiters:
            self._waiters[channel] = self._loop.create_future()
        return self._waiters[channel]

    def unsubscribe(self, channel: bytes) -> None:
        """End a subscription."""
        self._subscriptions.discard(channel)
        self._work.set()
        self._wake(channel)

    async def close(self) -> None:
        """End the connection; who waits for a channel need not any more."""
        await super().close()
        for channel in tuple(self._waiters):
            self._wake(channel)

    async def serve(self, connection: AbstractConnection) -> None:
        """Subscribe to all that is wanted, and hear it, until the connection is lost."""
        self._subscriptions.reset(self._wanted())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(connection))
            group.create_task(self._read(connection))
            group.create_task(self._watch())

    def note_lost(self) -> None:
        """Nothing is carried any more; what is wanted is asked for again on the next connection."""
        self._subscriptions.reset(self._wanted())

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            while self._subscriptions.has_changes:
                commands = self._take_commands(connection)
                async with asyncio.timeout(self._timeout):
                    await connection.send_packed_command(commands, check_health=False)
                    while self._subscriptions.has_unanswered:
                        await self._wait_progress()
            if not self.is_up:
                self.note_up()
            if self._is_ping_due:
                self._is_ping_due = False
                ping = connection.pack_command("PING")
                async with asyncio.timeout(self._timeout):
                    await connection.send_packed_command(ping, check_health=False)
            self._work.clear()
            if not self._subscriptions.has_changes and not self._is_ping_due:
                await self._work.wait()

    def _take_commands(self, connection: AbstractConnection) -> list[bytes]:
        subscribe, unsubscribe = self._subscriptions.take_changes(_BATCH_CHANNELS)
        if self._is_sharded:
            # One command cannot name channels of several slots.
            return connection.pack_commands(
                [(b"SSUBSCRIBE", channel) for channel in subscribe]
                + [(b"SUNSUBSCRIBE", channel) for channel in unsubscribe]
            )
        commands = [(b"SUBSCRIBE", *subscribe), (b"UNSUBSCRIBE", *unsubscribe)]
        return connection.pack_commands(each for each in commands if len(each) > 1)

    async def _read(self, connection: AbstractConnection) -> None:
        taken = 0
        while True:
            reply = await connection.read_response(disable_decoding=True, disconnect_on_error=False)
            match reply:
                case [b"message" | b"smessage", channel, data]:
                    self._heard += 1
                    self._on_message(channel, data)
                case [b"subscribe" | b"ssubscribe", channel, _]:
                    if self._subscriptions.confirm(channel):
                        self._wake(channel)
                    if not self._subscriptions.has_unanswered:
                        self._progress.set()
                case [b"sunsubscribe", channel, _] if self._subscriptions.is_carried(channel):
                    raise LinkLostError(f"{self._server.address} has passed a channel on")
                case [b"pong", _] | b"PONG":
                    self._pongs += 1
            if self._is_tested:
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

    async def _put_to_test(self) -> None:
        heard, pongs = self._heard, self._pongs
        self._is_tested = True
        self._is_ping_due = True
        self._work.set()
        is_published = False
        try:
            async with asyncio.timeout(self._timeout):
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

    def hand_over(self, channel: bytes, other: "Listener") -> None:
        """Have another listener carry a channel, and those who wait for it wait for that one."""
        waiter = self._waiters.pop(channel, None)
        self.unsubscribe(channel)
        carried = other.subscribe(channel)
        if waiter is not None:
            self._waiters[channel] = waiter
            if carried is None:
                self._wake(channel)
            else:
                carried.add_done_callback(lambda _: self._wake(channel))

    def _wake(self, channel: bytes) -> None:
        waiter = self._waiters.pop(channel, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()
