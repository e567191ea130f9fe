"""The server behind a URL or an asyncio client of redis-py."""

from typing import Any, Protocol

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import ConnectionPool

from wshub_redis.redis_py.cluster import AnyNode, SlotOwner
from wshub_redis.redis_py.connections import RedisConnection, open_connection
from wshub_redis.redis_py.validation import (
    check_no_options,
    check_pool,
    invalid_url_error,
    pool_address,
    wrong_client_error,
)
from wshub_redis.timeouts import stall_tolerant_timeout


class Server(Protocol):
    """A Redis server to connect to.

    The server behind the address can change, as with Sentinel.

    Attributes:
        address: The address for logs and errors, without any secret.
    """

    @property
    def address(self) -> str: ...  # noqa: D102

    async def connect(self, timeout: float) -> RedisConnection:
        """Open a connection, which the caller closes.

        Args:
            timeout: Maximum time for each step of connecting, in seconds.

        Raises:
            RedisError: The server refuses the connection.
            OSError: The server cannot be reached, or not in time, or is a replica.
        """


class PoolServer:
    """The server of a client's connection pool; with Sentinel, the current primary.

    Attributes:
        db: The number of the database in the client's settings.
        address: The address of the server.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self.db = int(pool.connection_kwargs.get("db") or 0)
        self.address = pool_address(pool)

    async def connect(self, timeout: float) -> RedisConnection:
        """Open a connection outside the pool, so that the application's limits do not count."""
        pool = self._pool
        connection = await open_connection(pool.connection_class, pool.connection_kwargs, timeout)
        try:
            async with stall_tolerant_timeout(timeout):
                await connection.require_primary(self.address)
        except BaseException:
            await connection.close()
            raise
        return connection


def find_server(
    redis: "str | Redis | RedisCluster", options: dict[str, Any]
) -> PoolServer | AnyNode:
    """Return the server of a URL or a client.

    Raises:
        InvalidConfigError: The URL or the client is invalid, or there are options for a client.
    """
    if isinstance(redis, str):
        try:
            pool = ConnectionPool.from_url(redis, **options)
        except ValueError:
            raise invalid_url_error() from None
        check_pool(pool)
        return PoolServer(pool)
    check_no_options(options)
    if isinstance(redis, RedisCluster):
        return AnyNode(redis)
    if not isinstance(redis, Redis):
        raise wrong_client_error("a Redis or RedisCluster of redis.asyncio", redis)
    return PoolServer(redis.connection_pool)


def find_home(redis: "str | Redis | RedisCluster", name: bytes) -> SlotOwner | None:
    """Return the server of a key in a cluster; None if the server is no cluster.

    Args:
        redis: A URL or a client that `find_server` has accepted.
        name: The key, or a name in the same slot.
    """
    return SlotOwner(redis, name) if isinstance(redis, RedisCluster) else None
