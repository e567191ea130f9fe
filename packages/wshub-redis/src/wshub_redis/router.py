"""The shard router: it knows the shard of each channel."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import count
from typing import Protocol, TypeAlias

from redis.asyncio import RedisCluster

from wshub_redis.connection import cancel_task, logger
from wshub_redis.redis_py.cluster import CLUSTER_ADDRESS, ClusterMap, slot_of
from wshub_redis.redis_py.connections import CONNECTION_ERRORS, RedisConnection
from wshub_redis.redis_py.servers import Server
from wshub_redis.sender import OutgoingMessage
from wshub_redis.shard import Shard

_REFRESH_SECONDS = 30.0
"""Time in seconds between two refreshes of a cluster's map, while all shards work."""

_TROUBLE_REFRESH_SECONDS = 1.0
"""The same while a shard is not up, or after a node has refused a message or a channel."""


MakeShard: TypeAlias = Callable[[Server, str, Callable[[Shard], Iterable[bytes]]], Shard]
"""Creates a shard from the first three arguments of `Shard`."""


class ShardRouter(Protocol):
    """The shards of a bridge, and the shard of each channel."""

    @property
    def shards(self) -> Collection[Shard]:
        """The current shards."""

    def shard_for(self, channel: bytes) -> Shard:
        """Return the shard of a channel on Redis."""

    async def open(self) -> None:
        """Open all shards; they go on trying if that fails.

        Raises:
            RedisError: A server refuses a connection.
            OSError: A server cannot be reached, or does not reply in time.
        """

    async def close(self) -> None:
        """Close all shards."""


class SingleShard:
    """The router for ordinary publishing: one shard has all channels.

    Args:
        make_shard: Creates the shard.
        server: The server.
        wanted: Returns all channels to subscribe to.
    """

    def __init__(
        self, make_shard: MakeShard, server: Server, wanted: Callable[[], Collection[bytes]]
    ) -> None:
        self._shard = make_shard(server, "", lambda _: wanted())
        self.shards = (self._shard,)

    def shard_for(self, channel: bytes) -> Shard:
        """Return the shard."""
        return self._shard

    async def open(self) -> None:
        """Open the shard."""
        await self._shard.open()

    async def close(self) -> None:
        """Close the shard."""
        await self._shard.close()


class ClusterRouter:
    """The router for sharded publishing: a shard for each primary of a cluster.

    The hash slot of a channel's name decides about its shard. Slots move, and primaries are
    replaced; so the router refreshes its copy of the cluster's map regularly, and soon when a
    shard has trouble. Channels and unconfirmed messages of a changed slot move to the new shard.

    Until the map is known there is one shard without a server. It collects messages and channels,
    which move to the real shards as if a node had been replaced.

    Args:
        make_shard: Creates a shard.
        cluster: The client that loads the map.
        timeout: Maximum time for loading the map, in seconds.
        wanted: Returns all channels to subscribe to.
        on_change: Called when the shards have changed.
    """

    def __init__(
        self,
        make_shard: MakeShard,
        cluster: RedisCluster,
        timeout: float,
        wanted: Callable[[], Collection[bytes]],
        on_change: Callable[[], None],
    ) -> None:
        self._make_shard = make_shard
        self._map = ClusterMap(cluster)
        self._timeout = timeout
        self._wanted = wanted
        self._on_change = on_change
        self._unreached = _UnreachedCluster()
        self._shards = {"": make_shard(self._unreached, "", self._wanted_on)}
        self._hash_tags = {"": ""}
        self._retired: list[Shard] = []
        # A copy, because the map of the client changes at any time. Channels may change their
        # shard only in `_refresh`, which moves their subscriptions.
        self._shard_by_slot: dict[int, Shard] = {}
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def shards(self) -> Collection[Shard]:
        """The current shards."""
        return self._shards.values()

    def shard_for(self, channel: bytes) -> Shard:
        """Return the shard of a channel, as far as the map is known."""
        shard = self._shard_by_slot.get(slot_of(channel))
        # Every node refuses a slot that has no owner, and a refusal leads to a refresh. So any
        # shard will do for that case.
        return next(iter(self._shards.values())) if shard is None else shard

    def _wanted_on(self, shard: Shard) -> list[bytes]:
        return [channel for channel in self._wanted() if self.shard_for(channel) is shard]

    async def open(self) -> None:
        """Load the map, and open a shard for each primary; go on trying if that fails."""
        try:
            await self._map.load(self._timeout)
            self._update_shards()
        except CONNECTION_ERRORS as exc:
            self._unreached.error = exc
        attempts = (shard.open() for shard in self.shards)
        failures = await asyncio.gather(*attempts, return_exceptions=True)
        self._refreshing = asyncio.create_task(self._refresh_regularly())
        for failure in filter(None, failures):
            raise failure

    async def close(self) -> None:
        """Close all shards."""
        if self._refreshing is not None:
            await cancel_task(self._refreshing)
        await asyncio.gather(*(shard.close() for shard in (*self.shards, *self._retired)))

    async def _refresh_regularly(self) -> None:
        refusals = self._count_refusals()
        while True:
            for _ in range(int(_REFRESH_SECONDS / _TROUBLE_REFRESH_SECONDS)):
                await asyncio.sleep(_TROUBLE_REFRESH_SECONDS)
                if self._has_trouble() or self._count_refusals() != refusals:
                    break
            refusals = self._count_refusals()
            try:
                await self._refresh()
            except CONNECTION_ERRORS as exc:
                self._unreached.error = exc
                why = str(exc) or type(exc).__name__
                logger.warning("the map of the cluster cannot be loaded: %s", why)
            except Exception:
                # A fault of this package. Without further refreshes the bridge would keep an
                # outdated map.
                logger.exception("the refresh of the cluster's map failed")

    def _has_trouble(self) -> bool:
        return any(not shard.is_up or shard.listener.has_refused for shard in self.shards)

    def _count_refusals(self) -> int:
        return sum(shard.sender.refusals for shard in self.shards)

    async def _refresh(self) -> None:
        await self._map.reload(self._timeout)
        # No `await` from here until all channels and messages have moved: in between, a channel
        # would be on no shard or on two.
        before = {channel: self.shard_for(channel) for channel in self._wanted()}
        known = set(self.shards)
        retired = self._update_shards()
        for shard in self.shards:
            if shard not in known:
                shard.start()
        for channel, shard in before.items():
            now = self.shard_for(channel)
            if now is not shard:
                shard.listener.move_to(channel, now.listener)
            else:
                shard.listener.retry_refused(channel)
        for shard in retired:
            self._requeue(shard.sender.take_unconfirmed())
        for shard in known.intersection(self.shards):
            self._requeue(shard.sender.take_displaced(partial(self._is_on, shard)))
        # `close` finds the retired shards here if it is called before they are closed.
        self._retired = retired
        for shard in retired:
            await shard.close()
        self._retired = []
        self._on_change()

    def _is_on(self, shard: Shard, channel: bytes) -> bool:
        return self.shard_for(channel) is shard

    def _requeue(self, items: Iterable[OutgoingMessage]) -> None:
        for item in items:
            self.shard_for(item.channel).sender.requeue(item)

    def _update_shards(self) -> list[Shard]:
        """Create the missing shards; remove and return those that are not needed any more."""
        owners = self._map.slot_owners
        if not owners:
            # A node that is about to join knows no slots. The shards stay as they are.
            return []
        retired = [
            self._shards.pop(name)
            for name in tuple(self._shards)
            # The probe channel must be in a slot of the node, too. If that slot has moved, the
            # shard is replaced by one with another probe channel.
            if owners.get(slot_of(self._hash_tags[name].encode())) != name
        ]
        for name, server in self._map.primaries.items():
            if name not in self._shards:
                hash_tags = (f"{{{number}}}" for number in count())
                hash_tag = next(t for t in hash_tags if owners.get(slot_of(t.encode())) == name)
                self._hash_tags[name] = hash_tag
                self._shards[name] = self._make_shard(server, hash_tag, self._wanted_on)
        self._shard_by_slot = {slot: self._shards[name] for slot, name in owners.items()}
        return retired


class _UnreachedCluster:
    """The server of a cluster whose nodes are not known yet.

    Attributes:
        error: The failure of the last attempt to load the map.
    """

    address = CLUSTER_ADDRESS

    def __init__(self) -> None:
        self.error: Exception = ConnectionError("the cluster has not been reached yet")

    async def connect(self, timeout: float) -> RedisConnection:
        # Without the old traceback, to which each raise would add.
        raise self.error.with_traceback(None)
