"""The nodes of a Redis cluster."""

import asyncio
from random import random
from weakref import WeakKeyDictionary

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.crc import key_slot

from wshub_redis.redis_py.connections import CONNECTION_ERRORS, RedisConnection, open_connection
from wshub_redis.timeouts import stall_tolerant_timeout

CLUSTER_ADDRESS = "the cluster"
"""The address of a cluster in logs and errors."""

# If two tasks load the map of a client at once, redis-py 7.0 and older forgets the connections of
# one of them without closing them. Several bridges may share a client, so the lock is the client's.
_loading_locks: WeakKeyDictionary[RedisCluster, asyncio.Lock] = WeakKeyDictionary()


def slot_of(channel: bytes) -> int:
    """Return the hash slot of a channel."""
    return key_slot(channel)


class NodeServer:
    """A server that is one node of a cluster.

    Attributes:
        address: The address of the node.
    """

    def __init__(self, node: ClusterNode) -> None:
        self._node = node
        self.address = f"{node.host}:{node.port}"

    async def connect(self, timeout: float) -> RedisConnection:
        """Open a connection to the node."""
        return await open_connection(
            self._node.connection_class, self._node.connection_kwargs, timeout
        )


class ClusterMap:
    """The map from slots to nodes, as the cluster client of the application knows it.

    The client changes its map whenever the application uses it. A caller that needs a stable map
    copies `slot_owners`.
    """

    def __init__(self, cluster: RedisCluster) -> None:
        self._nodes = cluster.nodes_manager
        self._cluster = cluster
        # The client of redis-py replaces the startup nodes by the nodes that it has discovered. If
        # all discovered nodes are replaced while no map is loaded, the client asks only nodes that
        # no longer exist. So the original startup nodes are kept.
        self._startup_nodes = dict(self._nodes.startup_nodes)
        self._loading = _loading_locks.setdefault(cluster, asyncio.Lock())

    @property
    def slot_owners(self) -> dict[int, str]:
        """The name of the primary of each slot; empty before the first `load`."""
        return {slot: nodes[0].name for slot, nodes in self._nodes.slots_cache.items()}

    @property
    def primaries(self) -> dict[str, NodeServer]:
        """The nodes that own slots, by name."""
        # By name, because nodes cannot be members of a set in redis-py 7.0 and older.
        nodes = {nodes[0].name: nodes[0] for nodes in self._nodes.slots_cache.values()}
        return {name: NodeServer(node) for name, node in nodes.items()}

    async def load(self, timeout: float) -> None:
        """Load the map, unless the client has loaded it already.

        Raises:
            RedisClusterException: No node answers.
            TimeoutError: The nodes do not answer in time.
        """
        async with stall_tolerant_timeout(timeout), self._loading:
            await self._cluster.initialize()

    async def reload(self, timeout: float) -> None:
        """Load the map again.

        Raises:
            RedisClusterException: No node answers.
            TimeoutError: The nodes do not answer in time.
        """
        async with stall_tolerant_timeout(timeout), self._loading:
            for name, node in self._startup_nodes.items():
                self._nodes.startup_nodes.setdefault(name, node)
            # A client that was never initialized closes no connections. The next line would leave
            # connections open if this line did not come first.
            await self._cluster.initialize()
            await self._nodes.initialize()


class AnyNode:
    """A server that is any primary of a cluster, for ordinary publishing.

    A node passes an ordinary message on to all other nodes, so one connection is enough.
    """

    db = 0
    address = CLUSTER_ADDRESS

    def __init__(self, cluster: RedisCluster) -> None:
        self._map = ClusterMap(cluster)

    async def connect(self, timeout: float) -> RedisConnection:
        """Open a connection to the first primary that accepts it."""
        await self._map.load(timeout)
        try:
            return await self._connect_to_any(timeout)
        except CONNECTION_ERRORS:
            # The known primaries may have been replaced.
            await self._map.reload(timeout)
            return await self._connect_to_any(timeout)

    async def _connect_to_any(self, timeout: float) -> RedisConnection:
        failure: Exception = ConnectionError("the cluster has no primary")
        # In random order, so that the hubs of a fleet spread over the nodes.
        for node in sorted(self._map.primaries.values(), key=lambda _: random()):
            try:
                return await node.connect(timeout)
            except CONNECTION_ERRORS as exc:
                failure = exc
        raise failure


class SlotOwner:
    """A server that is the primary of one slot of a cluster.

    Args:
        cluster: The client that loads the map.
        name: A name in the slot.
    """

    db = 0
    address = CLUSTER_ADDRESS

    def __init__(self, cluster: RedisCluster, name: bytes) -> None:
        self._map = ClusterMap(cluster)
        self._slot = slot_of(name)

    async def connect(self, timeout: float) -> RedisConnection:
        """Open a connection to the primary."""
        # The slot may have moved since the last connection.
        await self._map.reload(timeout)
        owner = self._map.slot_owners.get(self._slot)
        if owner is None:
            raise ConnectionError(f"slot {self._slot} of the cluster has no primary")
        return await self._map.primaries[owner].connect(timeout)
