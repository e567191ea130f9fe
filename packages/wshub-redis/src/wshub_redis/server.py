"""Where connections to Redis come from: a URL or a client of redis-py, of any kind."""

import asyncio
from random import random
from typing import Any, Protocol

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from wshub_core import InvalidConfigError
from wshub_redis.patience import patient_timeout

CONNECTION_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What connecting to Redis, and talking to it, raises when it fails."""

ROLE_SECONDS = 30.0
"""After how many seconds a publisher asks a server again whether it is a replica."""

_NOT_FOR_US = ("event_dispatcher", "himport_registry", "maint_", "maintenance_", "orig_", "oss_")
"""Settings of a pool that tie its connections to it."""


class ReplicaError(ConnectionError):
    """A server is a replica: what is published there never reaches its primary.

    Args:
        address: The server's.
    """

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} is a replica and cannot publish: connect to its primary")


class Server(Protocol):
    """One Redis server, or whichever has its part now.

    Attributes:
        address: What it is called in logs and errors; holds no secret.
    """

    @property
    def address(self) -> str: ...  # noqa: D102

    async def connect(self, timeout: float) -> AbstractConnection:
        """Open a connection that the caller closes.

        Args:
            timeout: The most seconds it may take.

        Raises:
            RedisError: It refuses us.
            OSError: It cannot be reached, or not in time, or is a replica.
        """


class PoolServer:
    """The server of a client of redis-py; for one of Sentinel the primary there is now."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        settings = pool.connection_kwargs
        self.db = int(settings.get("db") or 0)
        self.address = describe_pool(pool)

    async def connect(self, timeout: float) -> AbstractConnection:
        """Open a connection of its own, outside the pool."""
        pool = self._pool
        connection = await open_connection(pool.connection_class, pool.connection_kwargs, timeout)
        try:
            async with patient_timeout(timeout):
                await _require_primary(connection, self.address)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


class ClusterMap:
    """Which node of a cluster has what, as its client knows it.

    A client forgets the nodes it was given as soon as it has seen others. If those are replaced one
    day, it asks nobody that is left; so they are kept here.
    """

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster
        self._given = dict(cluster.nodes_manager.startup_nodes)
        # Of two that ask at once, redis-py forgets the connections of one without closing them.
        self._asking = asyncio.Lock()

    @property
    def owners(self) -> dict[int, ClusterNode]:
        """The primary of each slot."""
        slots = self._cluster.nodes_manager.slots_cache
        return {slot: nodes[0] for slot, nodes in slots.items()}

    @property
    def primaries(self) -> list[ClusterNode]:
        """All nodes that have slots."""
        # By name, because not every version of redis-py has nodes that can be members of a set.
        return list({node.name: node for node in self.owners.values()}.values())

    async def load(self) -> None:
        """Ask the cluster, unless its client has done so already."""
        async with self._asking:
            await self._cluster.initialize()

    async def reload(self) -> None:
        """Ask the cluster again."""
        nodes = self._cluster.nodes_manager
        async with self._asking:
            for name, node in self._given.items():
                nodes.startup_nodes.setdefault(name, node)
            # Without this a client that has never reached the cluster would not close what is
            # opened in the next line.
            await self._cluster.initialize()
            await nodes.initialize()


class AnyNode:
    """Any node of a cluster: ordinary publishing reaches the subscribers of all nodes."""

    db = 0

    def __init__(self, cluster: RedisCluster) -> None:
        self._map = ClusterMap(cluster)
        self.address = "the cluster"

    async def connect(self, timeout: float) -> AbstractConnection:
        """Open a connection to the first primary that lets us."""
        async with patient_timeout(timeout):
            await self._map.load()
        try:
            return await self._connect_to_one(timeout)
        except CONNECTION_ERRORS:
            # All that were known are gone; others may have come in their place.
            async with patient_timeout(timeout):
                await self._map.reload()
            return await self._connect_to_one(timeout)

    async def _connect_to_one(self, timeout: float) -> AbstractConnection:
        failure: Exception = ConnectionError("the cluster has no primary")
        # Another first each time, so that a fleet spreads over the nodes.
        for node in sorted(self._map.primaries, key=lambda _: random()):
            try:
                return await open_connection(node.connection_class, node.connection_kwargs, timeout)
            except CONNECTION_ERRORS as exc:
                failure = exc
        raise failure


def find_server(
    redis: "str | Redis | RedisCluster", options: dict[str, Any]
) -> PoolServer | AnyNode:
    """Return the server that a URL or a client stands for.

    Raises:
        InvalidConfigError: The URL cannot be understood, or options go with a client.
    """
    if isinstance(redis, str):
        try:
            pool = ConnectionPool.from_url(redis, **options)
        except ValueError:
            raise invalid_url() from None
        check_options(pool)
        return PoolServer(pool)
    if options:
        raise InvalidConfigError(
            f"{', '.join(options)}: a client has its settings already, give options with a URL"
        )
    if isinstance(redis, RedisCluster):
        return AnyNode(redis)
    if not isinstance(redis, Redis):
        raise wrong_client("a Redis or RedisCluster of redis.asyncio", redis)
    return PoolServer(redis.connection_pool)


def wrong_client(expected: str, given: object) -> InvalidConfigError:
    """Return the error for a client of the other side of redis-py, which would do nothing."""
    kind = type(given)
    return InvalidConfigError(
        f"give the URL of redis or {expected}, not {kind.__module__}.{kind.__qualname__}"
    )


def invalid_url() -> InvalidConfigError:
    """Return the error for a URL that redis-py does not take.

    What redis-py says about it may hold a part of the password.
    """
    return InvalidConfigError(
        "invalid redis URL: use redis://[USER:PASSWORD@]HOST[:PORT], rediss:// for TLS or "
        "unix://PATH, with special characters written as in %2F"
    )


def check_options(pool: Any) -> None:
    """Check that a connection can be made with a pool's settings.

    Raises:
        InvalidConfigError: It cannot.
    """
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as exc:
        why = str(exc).rpartition("() ")[2]
        raise InvalidConfigError(f"invalid option for a connection to redis: {why}") from None


def require_cluster(sharded: bool, is_cluster: bool) -> None:
    """Check that sharded publishing is asked of a cluster.

    Raises:
        InvalidConfigError: It is not.
    """
    if sharded and not is_cluster:
        raise InvalidConfigError("sharded=True needs a RedisCluster of redis-py")


def describe_pool(pool: Any) -> str:
    """Return where a pool's connections lead, without any secret."""
    settings = pool.connection_kwargs
    if "path" in settings:
        return f"unix://{settings['path']}"
    if hasattr(pool, "service_name"):
        return f"the primary of {pool.service_name!r}"
    return f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"


async def open_connection(
    connection_class: Any, settings: dict[str, Any], timeout: float
) -> AbstractConnection:
    """Open a connection that leaves retries and timeouts to the caller."""
    own = {name: value for name, value in settings.items() if not name.startswith(_NOT_FOR_US)}
    own |= {
        "decode_responses": False,
        "health_check_interval": 0,
        # Subscribed connections of version 3 take twice the time for a message.
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        # The timeout below is the only one, because it is patient.
        "socket_connect_timeout": None,
        "socket_timeout": None,
    }
    connection: AbstractConnection = connection_class(**own)
    try:
        async with patient_timeout(timeout):
            await connection.connect()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


def is_replica(reply: object) -> bool:
    """Tell whether a reply to ``HELLO`` is that of a replica, by any version of the protocol.

    Nodes of a cluster pass on what is published, whatever their role.
    """
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    if not isinstance(reply, dict):
        return False
    facts = {_to_bytes(name): _to_bytes(value) for name, value in reply.items()}
    return facts.get(b"role") == b"replica" and facts.get(b"mode") != b"cluster"


def _to_bytes(value: object) -> object:
    return value.encode() if isinstance(value, str) else value


async def _require_primary(connection: AbstractConnection, address: str) -> None:
    # Unlike ROLE and INFO, HELLO is allowed to every user.
    await connection.send_command("HELLO", check_health=False)
    try:
        reply = await connection.read_response(disable_decoding=True, disconnect_on_error=False)
    except (AuthenticationError, ResponseError):
        # Older than Redis 6, or something in between. Later commands say what is not allowed.
        return
    if is_replica(reply):
        raise ReplicaError(address)
