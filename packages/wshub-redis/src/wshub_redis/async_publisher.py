"""The asyncio publisher, for programs without a hub."""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis, RedisCluster

from wshub_core import BridgeUnavailableError, HistoryLimits, Message
from wshub_core.forks import ForkGuard
from wshub_redis.errors import PublisherOpenError, connect_error
from wshub_redis.history_calls import HistoryCalls
from wshub_redis.history_writer import HistoryWriter
from wshub_redis.publish_encoder import PublishEncoder
from wshub_redis.publish_methods import PublishMethods
from wshub_redis.redis_py.connections import CONNECTION_ERRORS
from wshub_redis.redis_py.servers import Server, find_home, find_server
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
        history: The size of the history of channels: the value of the hubs
            (`wshub_core.HubConfig`). Messages of these channels are appended to their history.
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
        history: Mapping[str, HistoryLimits | None] | None = None,
        **options: Any,
    ) -> None:
        self._encoder = encoder = PublishEncoder(
            prefix, max_message_bytes, history or {}, is_sharded=False
        )
        self._has_history = any(limits is not None for limits in (history or {}).values())
        calls = HistoryCalls(encoder.channels, is_sharded=False)
        self._writer = HistoryWriter(encoder.channels, calls, encoder.envelopes)
        self._server = find_server(redis, options)
        # The server that has the keys of all histories.
        self._home = find_home(redis, encoder.channels.home) if self._has_history else None
        self._settings = ConnectionSettings(
            timeout=timeout,
            replay_seconds=replay_seconds,
            max_queue_bytes=max_queue_bytes,
        )
        # The sender, and the sender of messages with history.
        self._senders: tuple[Sender, Sender] | None = None
        self._guard: ForkGuard | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BridgeUnavailableError: Redis cannot be reached, or refuses the connection.
            PublisherOpenError: The publisher is open already.
            ForkedProcessError: The publisher was entered in a parent of this process.
        """
        self._check_process()
        if self._senders is not None:
            raise PublisherOpenError
        sender = self._make_sender(self._server, self._has_history and self._home is None)
        history_sender = sender if self._home is None else self._make_sender(self._home, True)
        self._senders = sender, history_sender
        self._guard = ForkGuard("publisher")
        try:
            for each in dict.fromkeys(self._senders):
                await each.open()
        except CONNECTION_ERRORS as exc:
            await self._close()
            raise connect_error(self._server.address, exc) from exc
        except BaseException:
            await self._close()
            raise
        return self

    def _make_sender(self, server: Server, has_history: bool) -> Sender:
        settings = self._settings
        return Sender(
            server,
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
            # There are no clients that would get the message without a history.
            on_unstored=(lambda *_: None) if has_history else None,
        )

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
        assert self._senders is not None, "the publisher was entered"
        try:
            with contextlib.suppress(TimeoutError):
                async with stall_tolerant_timeout(self._settings.timeout):
                    for sender in self._senders:
                        await sender.flush()
        finally:
            await self._close()

    async def _close(self) -> None:
        senders, self._senders, self._guard = self._senders, None, None
        for sender in dict.fromkeys(senders or ()):
            await sender.close()

    def _check_process(self) -> None:
        if self._guard is not None:
            self._guard.check()

    async def _publish(self, channel: str | None, message: Message) -> None:
        self._check_process()
        if self._senders is None:
            raise BridgeUnavailableError("the publisher is not open: use it inside `async with`")
        sender, history_sender = self._senders
        encoded = self._encoder.encode(channel, message)
        if encoded.limits is not None:
            await self._writer.publish(
                history_sender, encoded.channel, encoded.payload, encoded.limits
            )
            return
        # No `await` between the two steps: envelopes must be sent in the order of their numbers.
        envelope = self._encoder.envelopes.write(encoded.payload)
        await sender.publish(self._encoder.channels.to_redis(encoded.channel), envelope)
