"""The lanes of a bridge: one, or in a sharded cluster one to each of its primaries."""

import asyncio
from collections.abc import Callable, Collection
from itertools import count
from typing import Protocol

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot

from wshub_redis.lane import Lane
from wshub_redis.link import end_task, logger
from wshub_redis.patience import patient_timeout
from wshub_redis.server import CONNECTION_ERRORS, ClusterMap, Server, open_connection

_REFRESH_SECONDS = 30.0
"""How often the cluster is asked how it is cut, while all is well."""

_TROUBLE_SECONDS = 1.0
"""The same while a lane is not up, or after a node has refused a message."""


MakeLane = Callable[[Server, str], Lane]
"""Makes a lane to a server; what decides about the slot of its probe is the second argument."""


class Lanes(Protocol):
    """Which lane leads to the subscribers of which channel."""

    @property
    def all(self) -> Collection[Lane]:
        """The lanes there are."""

    def lane_of(self, channel: bytes) -> Lane:
        """Return the lane for a channel on Redis."""

    async def open(self) -> None:
        """Open all; raises what connecting raises, and goes on trying."""

    async def close(self) -> None:
        """Close all."""


class OneLane:
    """The lane to a server that has all channels."""

    def __init__(self, make_lane: MakeLane, server: Server) -> None:
        self._lane = make_lane(server, "")
        self.all = (self._lane,)

    def lane_of(self, channel: bytes) -> Lane:
        """Return the lane."""
        return self._lane

    async def open(self) -> None:
        """Open it."""
        await self._lane.open()

    async def close(self) -> None:
        """Close it."""
        await self._lane.close()


class ShardLanes:
    """A lane to each primary of a cluster; channels go by the hash slot of their names.

    Until the cluster has been reached there is one lane that leads nowhere. What is subscribed to
    and published goes there, and is handed over like that of a node that has gone.

    Args:
        make_lane: Makes a lane.
        cluster: Knows the nodes; it is asked again now and then, and soon when there is trouble.
        timeout: How long the cluster may take to say how it is cut, in seconds.
        channels: Returns the channels that are to be heard.
        on_change: Called when there are other lanes.
    """

    def __init__(
        self,
        make_lane: MakeLane,
        cluster: RedisCluster,
        timeout: float,
        channels: Callable[[], Collection[bytes]],
        on_change: Callable[[], None],
    ) -> None:
        self._make_lane = make_lane
        self._map = ClusterMap(cluster)
        self._timeout = timeout
        self._channels = channels
        self._on_change = on_change
        self._nowhere = _Nowhere()
        self._lanes = {"": make_lane(self._nowhere, "")}
        self._tags = {"": ""}
        self._gone: list[Lane] = []
        # The cluster's own map changes whenever somebody else asks for it.
        self._lane_of_slot: dict[int, Lane] = {}
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def all(self) -> Collection[Lane]:
        """The lanes there are."""
        return self._lanes.values()

    def lane_of(self, channel: bytes) -> Lane:
        """Return the lane to the node that has a channel's slot, as far as is known."""
        lane = self._lane_of_slot.get(key_slot(channel))
        # A slot that nobody has is refused by all, which has the cluster asked again.
        return next(iter(self._lanes.values())) if lane is None else lane

    async def open(self) -> None:
        """Ask the cluster for its nodes, and open a lane to each primary.

        If that fails, it is tried again all the same, until `close`.
        """
        try:
            async with patient_timeout(self._timeout):
                await self._map.load()
            self._learn()
        except CONNECTION_ERRORS as exc:
            self._nowhere.error = exc
        opening = (lane.open() for lane in self.all)
        failures = await asyncio.gather(*opening, return_exceptions=True)
        self._refreshing = asyncio.create_task(self._keep_up())
        for failure in filter(None, failures):
            raise failure

    async def close(self) -> None:
        """Close all lanes."""
        if self._refreshing is not None:
            await end_task(self._refreshing)
        await asyncio.gather(*(lane.close() for lane in (*self.all, *self._gone)))

    async def _keep_up(self) -> None:
        refused = self._refused()
        while True:
            for _ in range(int(_REFRESH_SECONDS / _TROUBLE_SECONDS)):
                await asyncio.sleep(_TROUBLE_SECONDS)
                is_well = all(
                    lane.sender.is_up and lane.listener.is_up and not lane.listener.has_refused
                    for lane in self.all
                )
                if not is_well or self._refused() != refused:
                    break
            refused = self._refused()
            try:
                await self._refresh()
            except CONNECTION_ERRORS as exc:
                self._nowhere.error = exc
                why = str(exc) or type(exc).__name__
                logger.warning("the cluster does not say how it is cut: %s", why)
            except Exception:
                # A bug of ours; to be without news for good would be worse.
                logger.exception("the cluster could not be looked at")

    def _refused(self) -> int:
        return sum(lane.sender.refused for lane in self.all)

    async def _refresh(self) -> None:
        async with patient_timeout(self._timeout):
            await self._map.reload()
        # Nobody else gets a turn from here on until all is in its place.
        before = {channel: self.lane_of(channel) for channel in self._channels()}
        known = set(self.all)
        gone = self._learn()
        for lane in self.all:
            if lane not in known:
                lane.start()
        for channel, lane in before.items():
            now = self.lane_of(channel)
            if now is not lane:
                lane.listener.hand_over(channel, now.listener)
            else:
                lane.listener.ask_refused_again(channel)
        for lane in gone:
            for item in lane.sender.give_away():
                self.lane_of(item.channel).sender.take_over(item)
        # Until they are closed they can be found, should the bridge be stopped meanwhile.
        self._gone = gone
        for lane in gone:
            await lane.close()
        self._gone = []
        self._on_change()

    def _learn(self) -> list[Lane]:
        """Make the lanes that the cluster needs now; return those that it does not any more."""
        owners = self._map.owners
        if not owners:
            return []  # whoever said that knows nothing
        primaries = {node.name: node for node in self._map.primaries}
        gone = [
            self._lanes.pop(name)
            for name in tuple(self._lanes)
            # One whose probe has lost its slot is replaced as well.
            if owners.get(key_slot(self._tags[name].encode())) is not primaries.get(name, name)
        ]
        for name, node in primaries.items():
            if name not in self._lanes:
                # A lane's probe has to be in a slot of its node.
                tags = (f"{{{number}}}" for number in count())
                tag = next(t for t in tags if owners.get(key_slot(t.encode())) is node)
                self._tags[name] = tag
                self._lanes[name] = self._make_lane(_Node(node), tag)
        self._lane_of_slot = {slot: self._lanes[node.name] for slot, node in owners.items()}
        return gone


class _Nowhere:
    """Stands for the nodes of a cluster that has not been reached yet.

    Attributes:
        error: Why it has not been.
    """

    address = "the cluster"

    def __init__(self) -> None:
        self.error: Exception = ConnectionError("the cluster has not been reached yet")

    async def connect(self, timeout: float) -> AbstractConnection:
        raise self.error.with_traceback(None)


class _Node:
    """One node of a cluster, as a server."""

    def __init__(self, node: ClusterNode) -> None:
        self._node = node
        self.address = f"{node.host}:{node.port}"

    async def connect(self, timeout: float) -> AbstractConnection:
        return await open_connection(
            self._node.connection_class, self._node.connection_kwargs, timeout
        )
