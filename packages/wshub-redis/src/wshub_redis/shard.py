"""A shard: the connections to one Redis server."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from wshub_core import BridgeUnavailableError
from wshub_redis.command_connection import CommandConnection
from wshub_redis.connection import SupervisedConnection
from wshub_redis.listener import Listener
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.redis_py.servers import Server
from wshub_redis.scripts import Script
from wshub_redis.sender import REPLAY_DELAY_SECONDS, Sender
from wshub_redis.settings import ConnectionSettings
from wshub_redis.stats import Counters

_MAX_REPLAY_DELAY_SECONDS = 2.0
"""Maximum time in seconds for which queued messages wait on if the listener does not come up."""


class Shard:
    """The connections of a bridge to one server.

    A connection with subscriptions cannot publish, in version 2 of the protocol. So each direction
    has a connection of its own. A third one is for scripts with replies, which can be large.

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
        scripts: The scripts with replies; without any, there is no connection for them.
        home: The server that has the keys, if it is not the server of the shard.
        on_unstored: Called with a message that goes to no history; see `Sender`. None if no channel
            has a history.
        on_resynced: Called when messages arrive of which some may have been missed, and scripts
            can be run.
        on_commands_up: Called when scripts can be run again.

    Attributes:
        sender: The publishing half.
        listener: The subscribing half.
        history_sender: The sender of messages with history.
        commands: The connection for scripts with replies.
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
        scripts: Sequence[Script] = (),
        home: Server | None = None,
        on_unstored: Callable[[bytes, bytes], None] | None = None,
        on_resynced: Callable[[], None] = lambda: None,
        on_commands_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._probe_channel = channels.probe(source_id, hash_tag)
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self.listener = self._make_listener(server, wanted, settings, channels, on_change, counters)
        make_sender = partial(
            Sender,
            timeout=settings.timeout,
            on_change=on_change,
            counters=counters,
            command="SPUBLISH" if settings.is_sharded else "PUBLISH",
            replay_seconds=settings.replay_seconds,
            max_queue_bytes=settings.max_queue_bytes,
            before_replay=self._wait_for_listeners,
            role_interval=settings.probe_interval,
        )
        self._on_resynced = on_resynced
        self._on_commands_up = on_commands_up
        self.commands: CommandConnection | None = None
        if scripts:
            self.commands = CommandConnection(
                home or server, settings.timeout, self._note_commands, counters, scripts=scripts
            )
        # Only the sender checks the role; all connections lead to the same server.
        self.sender = make_sender(
            server,
            on_replica=self._leave_replica,
            on_unstored=on_unstored if home is None else None,
        )
        self.history_sender = self.sender
        if home is not None and on_unstored is not None:
            self.history_sender = make_sender(
                home, on_replica=lambda: None, on_unstored=on_unstored
            )

    def _make_listener(
        self,
        server: Server,
        wanted: Callable[["Shard"], Iterable[bytes]],
        settings: ConnectionSettings,
        channels: RedisChannels,
        on_change: Callable[[], None],
        counters: Counters,
    ) -> Listener:
        # In a sharded cluster, the broadcast channel is on one of the shards only.
        is_sharded = settings.is_sharded
        probe_channel = self._probe_channel
        essential = {probe_channel} if is_sharded else {probe_channel, channels.broadcast}
        return Listener(
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
            on_resubscribed=self._resync,
        )

    @property
    def senders(self) -> list[Sender]:
        """The senders, each once."""
        # A set would lose the order, which decides about the reason of an outage.
        return list(dict.fromkeys((self.sender, self.history_sender)))

    @property
    def essential(self) -> list[SupervisedConnection]:
        """The connections that pass on messages."""
        return [*self.senders, self.listener]

    @property
    def _connections(self) -> list[SupervisedConnection]:
        return [*self.essential, *filter(None, [self.commands])]

    @property
    def is_up(self) -> bool:
        """True if all connections are up."""
        return all(each.is_up for each in self._connections)

    def start(self) -> None:
        """Start to open all connections, without waiting."""
        for each in self._connections:
            each.start()

    async def open(self) -> None:
        """Open all connections.

        Raises:
            RedisError: The server refuses a connection.
            OSError: The server cannot be reached, or does not reply in time.
        """
        # All attempts are awaited before the first failure is raised.
        attempts = (each.open() for each in self._connections)
        failures = await asyncio.gather(*attempts, return_exceptions=True)
        for failure in filter(None, failures):
            raise failure

    async def close(self) -> None:
        """Close all connections; queued messages are lost."""
        await asyncio.gather(*(each.close() for each in self._connections))

    def _leave_replica(self) -> None:
        self.listener.leave_replica()
        if self.commands is not None:
            self.commands.leave_replica()

    def _note_commands(self) -> None:
        if self.commands is not None and self.commands.is_up:
            self._on_commands_up()
        self._resync()

    def _resync(self) -> None:
        if self.listener.is_up and (self.commands is None or self.commands.is_up):
            self._on_resynced()

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
