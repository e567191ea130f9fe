"""Checks of the URL, client and options that an application passes."""

from typing import Any

from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from wshub_core import InvalidConfigError


def wrong_client_error(expected: str, given: object) -> InvalidConfigError:
    """Return the error for an object that is no client of the expected kind.

    A blocking client in place of an asyncio client, or the other way round, would accept every
    message and send none.
    """
    kind = type(given)
    return InvalidConfigError(
        f"give the URL of redis or {expected}, not {kind.__module__}.{kind.__qualname__}"
    )


def invalid_url_error() -> InvalidConfigError:
    """Return the error for a URL that redis-py rejects.

    The text of redis-py's own error is left out, because it may contain a part of the password.
    """
    return InvalidConfigError(
        "invalid redis URL: use redis://[USER:PASSWORD@]HOST[:PORT], rediss:// for TLS or "
        "unix://PATH, with special characters written as in %2F"
    )


def check_no_options(options: dict[str, Any]) -> None:
    """Check that an application passes no options together with a client.

    Raises:
        InvalidConfigError: There are options.
    """
    if options:
        raise InvalidConfigError(
            f"{', '.join(options)}: a client has its settings already, give options with a URL"
        )


def check_pool(pool: Any) -> None:
    """Check that connections can be created with the settings of a pool.

    A pool creates its first connection when it is used. An unknown option would be an error then.

    Raises:
        InvalidConfigError: An option is unknown.
    """
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as exc:
        # The text before this is the name of a class of redis-py.
        why = str(exc).rpartition("() ")[2]
        raise InvalidConfigError(f"invalid option for a connection to redis: {why}") from None


def check_sharded(sharded: bool, redis: object) -> None:
    """Check that sharded publishing is used with a cluster.

    Raises:
        InvalidConfigError: It is used without a cluster.
    """
    if sharded and not isinstance(redis, RedisCluster | AsyncRedisCluster):
        raise InvalidConfigError("sharded=True needs a RedisCluster of redis-py")


def pool_address(pool: Any) -> str:
    """Return the address of a pool's server for logs and errors, without any secret."""
    settings = pool.connection_kwargs
    if "path" in settings:
        return f"unix://{settings['path']}"
    # Pools of Sentinel look up the host whenever they connect.
    if hasattr(pool, "service_name"):
        return f"the primary of {pool.service_name!r}"
    return f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
