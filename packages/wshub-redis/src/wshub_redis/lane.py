"""A lane: both directions between a bridge and one Redis server."""

import asyncio
import contextlib
from asyncio import Future
from collections.abc import Callable, Iterable

from wshub_core import BridgeUnavailableError
from wshub_redis.counters import Counters
from wshub_redis.listener import Listener
from wshub_redis.names import Names
from wshub_redis.sender import Sender
from wshub_redis.server import Server
from wshub_redis.settings import LinkSettings

_SETTLE_SECONDS = 0.5
"""How long what waited for a connection waits on after this side listens again: the other hubs
were cut off as well, maybe, and come back at random times."""

_LONGEST_SETTLE_SECONDS = 2.0
"""How long that may take if this side cannot listen."""


class Lane:
    """A sender and a listener, on a connection each.

    Args:
        server: The server.
        settings: Timeouts and bounds.
        probe_channel: A channel that nobody else publishes to.
        names: The names of the fleet's channels.
        wanted: Returns the channels that are to be heard here, besides the probe's.
        on_message: Called with a channel and a message.
        on_change: Called when one of the directions came or went.
        counters: Where is counted.

    Attributes:
        sender, listener: The two directions.
    """

    def __init__(
        self,
        server: Server,
        settings: LinkSettings,
        *,
        probe_channel: bytes,
        names: Names,
        wanted: Callable[["Lane"], Iterable[bytes]],
        on_message: Callable[[bytes, bytes], None],
        on_change: Callable[[], None],
        counters: Counters,
    ) -> None:
        self._probe_channel = probe_channel
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self.sender = Sender(
            server,
            settings.timeout,
            on_change,
            counters,
            command="SPUBLISH" if settings.is_sharded else "PUBLISH",
            replay_seconds=settings.replay_seconds,
            max_queue_bytes=settings.max_queue_bytes,
            settle=self._settle,
            role_interval=settings.probe_interval,
            on_replica=lambda: self.listener.leave_replica(),
        )
        self.listener = Listener(
            server,
            settings.timeout,
            on_change,
            counters,
            is_sharded=settings.is_sharded,
            wanted=lambda: (probe_channel, *wanted(self)),
            pattern=names.all_channels,
            essential={probe_channel} if settings.is_sharded else {probe_channel, names.broadcast},
            on_message=self._receive,
            probe_interval=settings.probe_interval,
            probe=self._probe,
        )

    def start(self) -> None:
        """Open both connections, whenever that is possible."""
        self.sender.start()
        self.listener.start()

    async def open(self) -> None:
        """Open both connections now.

        Raises:
            RedisError: The server refuses us.
            OSError: It cannot be reached, or does not answer in time.
        """
        # Both are waited for, so that no failure is left for later.
        opening = (self.sender.open(), self.listener.open())
        failures = await asyncio.gather(*opening, return_exceptions=True)
        for failure in filter(None, failures):
            raise failure

    async def close(self) -> None:
        """Close both connections; what still waits to be sent is lost."""
        await asyncio.gather(self.sender.close(), self.listener.close())

    def _receive(self, channel: bytes, data: bytes) -> None:
        if channel != self._probe_channel:
            self._on_message(channel, data)

    async def _probe(self) -> bool:
        if not self.sender.is_up:
            return False
        confirmation: Future[None] = self._loop.create_future()
        self.sender.send(self._probe_channel, b"probe", confirmation, is_probe=True)
        try:
            await confirmation
        except BridgeUnavailableError:
            return False
        return True

    async def _settle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_SETTLE_SECONDS):
                listening_since = await self.listener.wait_up()
                await asyncio.sleep(listening_since + _SETTLE_SECONDS - self._loop.time())
