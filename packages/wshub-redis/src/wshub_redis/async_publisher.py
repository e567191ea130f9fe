"""The asyncio publisher, for programs without a hub."""

import asyncio
import contextlib
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis, RedisCluster

from wshub_core import BridgeUnavailableError, Message
from wshub_core.forks import ForkGuard
from wshub_redis.errors import PublisherOpenError, connect_error
from wshub_redis.publish_encoder import PublishEncoder
from wshub_redis.publish_methods import PublishMethods
from wshub_redis.redis_py.connections import CONNECTION_ERRORS
from wshub_redis.redis_py.servers import find_server
from wshub_redis.replicas import ROLE_CHECK_SECONDS
from wshub_redis.sender import REPLAY_DELAY_SECONDS, Sender
from wshub_redis.settings import ConnectionSettings
from wshub_redis.stats import Counters
from wshub_redis.timeouts import stall_tolerant_timeout


class AsyncRedisPublisher(PublishMethods[Coroutine[Any, Any, None]]):
    """A publisher for asyncio to the clients of all hubs with the same Redis and prefix.

    ::

        async with AsyncRedisPublisher("redis://localhost:6379") as publisher:
            await publisher.send_event("job:done", {"id": 7})

    `PublishMethods` lists the publishing methods, which are awaited. Each of them returns when
    Redis has the message.

    Messages that are published during a round trip to Redis are sent together in the next one, in
    order. While Redis cannot be reached, messages wait for up to ``replay_seconds``.

    Args:
        redis: The URL of a server, or an asyncio client of redis-py; see `RedisBridge`.
        prefix: The prefix of the hubs' bridges.
        timeout: Maximum time for a reply of Redis, in seconds.
        replay_seconds: Maximum time for which messages wait for a lost connection, in seconds; 0
            to drop them at once.
        max_queue_bytes: Maximum size of the messages that wait, in bytes.
        max_message_bytes: Maximum size of a message in its envelope, in bytes: the value of the
            hubs.
        **options: With a URL, more settings for redis-py's connections.

    Raises:
        InvalidPrefixError: The prefix is not allowed.
        InvalidConfigError: The URL or an option has an invalid value.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster = "redis://localhost:6379",
        *,
        prefix: str = "ws",
        timeout: float = 5.0,
        replay_seconds: float = 5.0,
        max_queue_bytes: int = 8_388_608,
        max_message_bytes: int = 65_536,
        **options: Any,
    ) -> None:
        self._encoder = PublishEncoder(prefix, max_message_bytes)
        self._server = find_server(redis, options)
        self._settings = ConnectionSettings(
            timeout=timeout,
            replay_seconds=replay_seconds,
            max_queue_bytes=max_queue_bytes,
        )
        self._sender: Sender | None = None
        self._guard: ForkGuard | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BridgeUnavailableError: Redis cannot be reached, or refuses the connection.
            PublisherOpenError: The publisher is open already.
            ForkedProcessError: The publisher was entered in a parent of this process.
        """
        self._check_process()
        if self._sender is not None:
            raise PublisherOpenError
        settings = self._settings
        sender = Sender(
            self._server,
            settings.timeout,
            lambda: None,
            Counters(),
            command="PUBLISH",
            replay_seconds=settings.replay_seconds,
            max_queue_bytes=settings.max_queue_bytes,
            before_replay=lambda: asyncio.sleep(REPLAY_DELAY_SECONDS),
            role_interval=ROLE_CHECK_SECONDS,
            # There is no listener that would have to leave the replica, too.
            on_replica=lambda: None,
        )
        self._sender, self._guard = sender, ForkGuard("publisher")
        try:
            await sender.open()
        except CONNECTION_ERRORS as exc:
            await self._close()
            raise connect_error(self._server.address, exc) from exc
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send queued messages, within ``timeout``, and close the connection.

        Raises:
            ForkedProcessError: The publisher was entered in a parent of this process.
        """
        self._check_process()
        assert self._sender is not None, "the publisher was entered"
        try:
            with contextlib.suppress(TimeoutError):
                async with stall_tolerant_timeout(self._settings.timeout):
                    await self._sender.flush()
        finally:
            await self._close()

    async def _close(self) -> None:
        sender, self._sender, self._guard = self._sender, None, None
        if sender is not None:
            await sender.close()

    def _check_process(self) -> None:
        if self._guard is not None:
            self._guard.check()

    async def _publish(self, channel: str | None, message: Message) -> None:
        self._check_process()
        if self._sender is None:
            raise BridgeUnavailableError("the publisher is not open: use it inside `async with`")
        name, payload = self._encoder.encode(channel, message)
        # No `await` between the two steps: envelopes must be sent in the order of their numbers.
        await self._sender.publish(name, self._encoder.wrap(payload))
