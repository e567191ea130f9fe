"""The blocking client of redis-py, for publishing."""

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any

from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import AuthenticationError, NoScriptError, ResponseError
from redis.retry import Retry

from wshub_core import BridgeUnavailableError
from wshub_redis.redis_py.cluster import CLUSTER_ADDRESS
from wshub_redis.redis_py.connections import CONNECTION_ERRORS
from wshub_redis.redis_py.validation import (
    check_no_options,
    check_pool,
    check_sharded,
    invalid_url_error,
    pool_address,
    wrong_client_error,
)
from wshub_redis.replicas import ROLE_CHECK_SECONDS, ReplicaError, is_replica
from wshub_redis.scripts import Script


class BlockingClient:
    """A blocking client that publishes, of the application or for a URL; not thread-safe.

    Args:
        redis: The URL of a server, or a client.
        sharded: Whether to use sharded publishing.
        timeout: With a URL, maximum time for connecting and for a reply, in seconds.
        options: With a URL, more settings for connections.

    Raises:
        InvalidConfigError: The URL, the client or an option is invalid.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster,
        *,
        sharded: bool,
        timeout: float,
        options: dict[str, Any],
    ) -> None:
        check_sharded(sharded, redis)
        # A pipeline is a Redis, too. It would collect the messages and send none.
        if not isinstance(redis, str | Redis | RedisCluster) or isinstance(redis, Pipeline):
            raise wrong_client_error("a Redis or RedisCluster of redis, without asyncio", redis)
        self._is_sharded = sharded
        self._client: Any = redis
        self._make_client: Callable[[], Redis] | None = None
        self._role_check_due = 0.0
        if not isinstance(redis, str):
            check_no_options(options)
            return
        # One retry, because the server may have closed an idle connection. A message that was
        # published twice does no harm, because hubs drop the second copy. Timeouts are not
        # retried; by default redis-py 6.0 and newer retries them several times.
        retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        settings = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        self._make_client = partial(Redis.from_url, redis, retry=retry, **settings | options)
        try:
            self._client = self._make_client()
        except ValueError:
            raise invalid_url_error() from None
        check_pool(self._client.connection_pool)

    @property
    def _is_cluster(self) -> bool:
        return isinstance(self._client, RedisCluster)

    @property
    def _address(self) -> str:
        return CLUSTER_ADDRESS if self._is_cluster else pool_address(self._client.connection_pool)

    def publish(self, channel: bytes, envelope: bytes) -> None:
        """Publish an envelope, and return when Redis has it.

        Raises:
            BridgeUnavailableError: Redis cannot be reached, or refuses the message.
        """
        publish = self._client.spublish if self._is_sharded else self._client.publish
        self._send(lambda: publish(channel, envelope))

    def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> None:
        """Run a script that publishes a message; return when it has done so.

        Args:
            script: The script, whose reply is a text if it could not publish.
            keys: The keys, all in one slot.
            arguments: The other arguments.

        Raises:
            BridgeUnavailableError: Redis cannot be reached, or refuses the message.
        """

        def call() -> object:
            try:
                return self._client.evalsha(script.sha.decode(), len(keys), *keys, *arguments)
            except NoScriptError:
                return self._client.eval(script.text, len(keys), *keys, *arguments)

        reply = self._send(call)
        if isinstance(reply, str | bytes):
            raise BridgeUnavailableError(
                f"redis at {self._address} stores messages and does not pass them on: {reply!r}",
                may_have_arrived=True,
            )

    def _send(self, call: Callable[[], object]) -> object:
        try:
            self._require_primary()
            return call()
        except CONNECTION_ERRORS as exc:
            raise BridgeUnavailableError(
                f"redis at {self._address} did not accept the message: {exc}",
                # With any other error, the message may have reached Redis before the failure.
                may_have_arrived=not isinstance(exc, ResponseError | ReplicaError),
            ) from exc

    def renew_after_fork(self) -> None:
        """Replace the client in a forked child; a client of the application stays."""
        if self._make_client is None:
            return
        # A thread of the parent may have held the lock of the pool. The old client would wait for
        # that lock when it is deleted, because it closes its pool then.
        self._client.auto_close_connection_pool = False
        self._client = self._make_client()

    def close(self) -> None:
        """Close the connections of a URL; later calls of `publish` open new ones."""
        if self._make_client is not None:
            self._client.close()

    def _require_primary(self) -> None:
        if self._is_cluster or monotonic() < self._role_check_due:
            return
        try:
            reply = self._client.execute_command("HELLO")
        except (AuthenticationError, ResponseError):
            reply = None
        if is_replica(reply):
            # The name of the server may lead to the primary by now, but only new connections look
            # it up.
            self._client.connection_pool.disconnect(inuse_connections=False)
            raise ReplicaError(self._address)
        self._role_check_due = monotonic() + ROLE_CHECK_SECONDS
