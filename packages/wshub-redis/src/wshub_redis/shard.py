"""A shard: a sender and a listener for one Redis server."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from wshub_core import BridgeUnavailableError
from wshub_redis.listener import Listener
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.redis_py.servers import Server
from wshub_redis.sender import REPLAY_DELAY_SECONDS, Sender
from wshub_redis.settings import ConnectionSettings
from wshub_redis.stats import Counters

_MAX_REPLAY_DELAY_SECONDS = 2.0
"""Maximum time in seconds for which queued messages wait on if the listener does not come up."""


class Shard:
    """The two connections of a bridge to one server.

    A connection with subscriptions cannot publish, in version 2 of the protocol. So each direction
    has a connection of its own.

    Args:
        server: The server.
        hash_tag: The part of the probe channel's name that decides about its slot in a cluster.
        wanted: Returns the channels to subscribe to on this shard, without the probe channel.
        settings: Timeouts and limits.
        channels: The names of the fleet's channels.
        source_id: The source id of the bridge. It makes the probe channel unique.
        on_message: Called with the channel and the data of each message.
        on_change: Called when a connection came up or was lost.
        counters: The counters to update.

    Attributes:
        sender: The publishing half.
        listener: The subscribing half.
    """

    def __init__(
        self,
        server: Server,
        hash_tag: str,
        wanted: Callable[["Shard"], Iterable[bytes]],
        *,
        settings: ConnectionSettings,
        channels: RedisChannels,
        source_id: str,
        on_message: Callable[[bytes, bytes], None],
        on_change: Callable[[], None],
        counters: Counters,
    ) -> None:
        self._probe_channel = probe_channel = channels.probe(source_id, hash_tag)
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        # In a sharded cluster, the broadcast channel is on one of the shards only.
        is_sharded = settings.is_sharded
        essential = {probe_channel} if is_sharded else {probe_channel, channels.broadcast}
        self.listener = Listener(
            server,
            settings.timeout,
            on_change,
            counters,
            is_sharded=is_sharded,
            wanted=lambda: (probe_channel, *wanted(self)),
            pattern=channels.all_channels,
            essential=essential,
            on_message=self._receive,
            probe_interval=settings.probe_interval,
            publish_probe=self._publish_probe,
        )
        self.sender = Sender(
            server,
            settings.timeout,
            on_change,
            counters,
            command="SPUBLISH" if is_sharded else "PUBLISH",
            replay_seconds=settings.replay_seconds,
            max_queue_bytes=settings.max_queue_bytes,
            before_replay=self._wait_for_listeners,
            role_interval=settings.probe_interval,
            # Only the sender checks the role; both connections lead to the same server.
            on_replica=self.listener.leave_replica,
        )

    @property
    def is_up(self) -> bool:
        """True if both connections are up."""
        return self.sender.is_up and self.listener.is_up

    def start(self) -> None:
        """Start to open both connections, without waiting."""
        self.sender.start()
        self.listener.start()

    async def open(self) -> None:
        """Open both connections.

        Raises:
            RedisError: The server refuses a connection.
            OSError: The server cannot be reached, or does not reply in time.
        """
        # Both attempts are awaited before the first failure is raised.
        attempts = (self.sender.open(), self.listener.open())
        failures = await asyncio.gather(*attempts, return_exceptions=True)
        for failure in filter(None, failures):
            raise failure

    async def close(self) -> None:
        """Close both connections; queued messages are lost."""
        await asyncio.gather(self.sender.close(), self.listener.close())

    def _receive(self, channel: bytes, data: bytes) -> None:
        if channel != self._probe_channel:
            self._on_message(channel, data)

    async def _publish_probe(self) -> bool:
        if not self.sender.is_up:
            return False
        try:
            await self.sender.publish(self._probe_channel, b"probe", is_probe=True)
        except BridgeUnavailableError:
            return False
        return True

    async def _wait_for_listeners(self) -> None:
        """Wait until this hub, and probably the other hubs, listen again after an outage."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAX_REPLAY_DELAY_SECONDS):
                listening_since = await self.listener.wait_up()
                await asyncio.sleep(listening_since + REPLAY_DELAY_SECONDS - self._loop.time())
