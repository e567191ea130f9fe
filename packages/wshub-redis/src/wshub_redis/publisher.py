"""The blocking publisher, for programs without a hub and without an event loop."""

import os
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from redis import Redis, RedisCluster

from wshub_core import HistoryLimits, Message
from wshub_redis.history_calls import HistoryCalls
from wshub_redis.publish_encoder import PublishEncoder
from wshub_redis.publish_methods import PublishMethods
from wshub_redis.publish_script import PUBLISH_SCRIPT
from wshub_redis.redis_py.blocking import BlockingClient
from wshub_redis.settings import ConnectionSettings


class RedisPublisher(PublishMethods[None]):
    """A blocking publisher to the clients of all hubs with the same Redis and prefix.

    ::

        publisher = RedisPublisher("redis://localhost:6379")
        publisher.send_event("job:done", {"id": 7})

    `PublishMethods` lists the publishing methods. Each of them returns when Redis has the message.

    Threads may share a publisher. They publish one after the other, so messages arrive in the
    order of publishing; while Redis does not respond, each thread waits for those before it.

    After a fork, the publisher works in both processes. A publisher with a client of redis-py does
    so only if no other thread used that client during the fork. For event loops there is
    `AsyncRedisPublisher`.

    Args:
        redis: The URL of a server (``redis://``, ``rediss://`` for TLS, ``unix://``), or a
            blocking client of redis-py, which the caller closes.
        prefix: The prefix of the hubs' bridges.
        sharded: Whether the bridges use sharded publishing; needs a ``RedisCluster``.
        timeout: With a URL, maximum time for a reply of Redis, in seconds.
        max_message_bytes: Maximum size of a message in its envelope, in bytes: the value of the
            hubs.
        history: The size of the history of channels: the value of the hubs
            (`wshub_core.HubConfig`). Messages of these channels are appended to their history.
        **options: With a URL, more settings for redis-py's connections, such as ``username``,
            ``password`` or ``ssl_ca_certs``.

    Raises:
        InvalidPrefixError: The prefix is not allowed.
        InvalidConfigError: The URL or an option has an invalid value.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster = "redis://localhost:6379",
        *,
        prefix: str = "ws",
        sharded: bool = False,
        timeout: float = 5.0,
        max_message_bytes: int = 65_536,
        history: Mapping[str, HistoryLimits | None] | None = None,
        **options: Any,
    ) -> None:
        settings = ConnectionSettings(timeout=timeout, is_sharded=sharded)
        self._encoder = PublishEncoder(
            prefix, max_message_bytes, history or {}, is_sharded=settings.is_sharded
        )
        self._calls = HistoryCalls(self._encoder.channels, is_sharded=settings.is_sharded)
        self._client = BlockingClient(
            redis, sharded=settings.is_sharded, timeout=settings.timeout, options=options
        )
        self._lock = threading.Lock()
        # `_renew_publishers` finds the publisher after a fork.
        _publishers.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call of a publishing method opens new ones."""
        self._client.close()

    def renew_after_fork(self) -> None:
        """Replace the locks in a forked child; a thread of the parent may have held them."""
        self._lock = threading.Lock()
        self._client.renew_after_fork()

    def _publish(self, channel: str | None, message: Message) -> None:
        channel, payload, limits = self._encoder.encode(channel, message)
        # One lock for both steps: envelopes must be sent in the order in which they were numbered.
        with self._lock:
            if limits is None:
                name = self._encoder.channels.to_redis(channel)
                self._client.publish(name, self._encoder.envelopes.write(payload))
            else:
                self._client.run(
                    PUBLISH_SCRIPT,
                    self._calls.keys(channel),
                    [
                        *self._calls.publish(channel, limits),
                        *self._calls.message(self._encoder.envelopes, payload),
                    ],
                )


_publishers: WeakSet[RedisPublisher] = WeakSet()


def _renew_publishers() -> None:
    for publisher in _publishers:
        publisher.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_publishers)
