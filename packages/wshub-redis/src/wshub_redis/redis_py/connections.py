"""Single connections of redis-py, outside its clients and pools."""

from collections.abc import Awaitable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from wshub_redis.replicas import HELLO, ReplicaError, is_replica
from wshub_redis.timeouts import stall_tolerant_timeout

# RedisClusterException is not a RedisError.
CONNECTION_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)
"""The exceptions of redis-py and of the network when Redis cannot be used."""

_POOL_SETTINGS = ("event_dispatcher", "himport_registry", "maint_", "maintenance_", "orig_", "oss_")
"""Beginnings of the names of settings that tie a connection to its pool or cluster client.
The clients of redis-py 8.1 add such settings to those of the application."""


class RedisConnection:
    """An open connection that leaves timeouts, retries and health checks to its user.

    Args:
        connection: The connected connection of redis-py.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    def write(self, commands: bytes | list[bytes]) -> Awaitable[None]:
        """Send encoded commands.

        Raises:
            RedisError: The connection is lost.
            OSError: The connection is lost.
        """
        return self._connection.send_packed_command(commands, check_health=False)

    def read(self) -> Awaitable[Any]:
        """Return the next reply or pushed message, with strings as bytes.

        Raises:
            ResponseError: The reply is an error; the connection can still be used.
            RedisError: The connection is lost.
            OSError: The connection is lost.
        """
        # Redis-py would close the connection when the task that reads is cancelled.
        return self._connection.read_response(disable_decoding=True, disconnect_on_error=False)

    async def close(self) -> None:
        """Close the connection without waiting for the server, which may be unreachable."""
        await self._connection.disconnect(nowait=True)

    async def require_primary(self, address: str) -> None:
        """Check the role of the server.

        Args:
            address: The address of the server, for the error.

        Raises:
            ReplicaError: The server is a replica.
        """
        await self.write(HELLO)
        try:
            reply = await self.read()
        except (AuthenticationError, ResponseError):
            # Servers before Redis 6 do not know HELLO, and proxies may refuse it. If this user has
            # no rights, the commands that follow fail with a message that says which.
            return
        if is_replica(reply):
            raise ReplicaError(address)


async def open_connection(
    connection_class: Any, settings: dict[str, Any], timeout: float
) -> RedisConnection:
    """Open a connection with the settings of a client, but with our own policies.

    Args:
        connection_class: The connection class of redis-py.
        settings: The settings of the client's connections.
        timeout: Maximum time for connecting, in seconds.

    Raises:
        RedisError: The server refuses the connection.
        OSError: The server cannot be reached, or not in time.
    """
    own = {name: value for name, value in settings.items() if not name.startswith(_POOL_SETTINGS)}
    own |= {
        "decode_responses": False,
        "health_check_interval": 0,
        # Version 3 of the protocol, the default since redis-py 8.0, doubles the time that redis-py
        # takes for a message on a subscribed connection.
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        # The timeout below is the only one: the timeouts of redis-py do not tolerate a stall.
        "socket_connect_timeout": None,
        "socket_timeout": None,
    }
    connection: AbstractConnection = connection_class(**own)
    try:
        async with stall_tolerant_timeout(timeout):
            await connection.connect()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return RedisConnection(connection)
