"""Publishing from programs that have no hub and no event loop: workers, scripts, web requests."""

import os
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import AuthenticationError, ResponseError
from redis.retry import Retry

from wshub_core import (
    JSON,
    BridgeUnavailableError,
    InvalidConfigError,
    Message,
    channel_event_message,
    error_message,
    event_message,
    process_output_message,
    process_status_message,
)
from wshub_redis.outbound import Outbound
from wshub_redis.server import (
    CONNECTION_ERRORS,
    ROLE_SECONDS,
    ReplicaError,
    check_options,
    describe_pool,
    invalid_url,
    is_replica,
    require_cluster,
    wrong_client,
)
from wshub_redis.settings import LinkSettings


class RedisPublisher:
    """Publishes to the clients of all hubs that use the same Redis and prefix; blocks.

    ::

        publisher = RedisPublisher("redis://localhost:6379")
        publisher.send_event("job:done", {"id": 7})

    Threads may share one: they publish one after the other, so that what one publishes arrives in
    order, and while Redis stands still each waits for those before it. After a fork it goes on
    working, in both processes; one with a client of redis-py only if no other thread used that
    client at the time. `AsyncRedisPublisher` is the same for event loops.

    Args:
        redis: The URL of a server (``redis://``, ``rediss://`` for TLS, ``unix://``), or a client
            of redis-py, which stays the caller's to close.
        prefix: What the bridges of the hubs use.
        sharded: Whether they use sharded publishing; needs a ``RedisCluster``.
        timeout: With a URL, how long Redis may take over an answer, in seconds.
        max_message_bytes: The most bytes of one message in its envelope: what the hubs allow.
        **options: With a URL, more for redis-py's connections, such as ``username``,
            ``password`` or ``ssl_ca_certs``.

    Raises:
        InvalidPrefixError: The prefix is not allowed.
        InvalidConfigError: The URL or an option has a value that cannot work.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster = "redis://localhost:6379",
        *,
        prefix: str = "ws",
        sharded: bool = False,
        timeout: float = 5.0,
        max_message_bytes: int = 65_536,
        **options: Any,
    ) -> None:
        self._outbound = Outbound(prefix, max_message_bytes)
        require_cluster(sharded, isinstance(redis, RedisCluster))
        LinkSettings(timeout=timeout)
        if not isinstance(redis, str | Redis | RedisCluster) or isinstance(redis, Pipeline):
            raise wrong_client("a Redis or RedisCluster of redis, without asyncio", redis)
        if options and not isinstance(redis, str):
            raise InvalidConfigError("a client has its settings already, give options with a URL")
        self._is_sharded = sharded
        self._client: Any = redis
        self._connect: Callable[[], Redis] | None = None
        if isinstance(redis, str):
            # An idle connection may have been closed meanwhile; hubs drop what comes twice.
            retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
            settings = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
            self._connect = partial(Redis.from_url, redis, retry=retry, **settings | options)
            try:
                self._client = self._connect()
            except ValueError:
                raise invalid_url() from None
            check_options(self._client.connection_pool)
        self._role_due = 0.0
        self._lock = threading.Lock()
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
        """Close the connections; publishing again opens others."""
        if self._connect is not None:
            self._client.close()

    def publish(self, channel: str, message: Message) -> None:
        """Publish a message to a channel; returns when Redis has it.

        Args:
            channel: Channel name, 1 to 256 characters of ``A-Za-z0-9_.:-``.
            message: Sent as given, but for ``channel`` and timestamp, which are set.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The process id in the channel or the message is not allowed.
            ReservedTypeError: Messages of this type are between one client and its hub.
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_message_bytes``.
            BridgeUnavailableError: Redis cannot be reached, or refuses the message.
        """
        self._send(channel, message)

    def broadcast(self, message: Message) -> None:
        """Publish a message to every connection; returns when Redis has it.

        Raises:
            WSHubError: As `publish` does.
        """
        self._send(None, message)

    def publish_event(self, channel: str, data: JSON = None) -> None:
        """Publish an event with any data to a channel.

        Raises:
            WSHubError: As `publish` does.
        """
        self.publish(channel, channel_event_message(channel, data))

    def send_event(self, name: str, data: JSON = None) -> None:
        """Broadcast that something happened, as ``{"event": name, "data": data}``.

        Raises:
            WSHubError: As `publish` does.
        """
        self.broadcast(event_message(name, data))

    def send_error(self, text: str) -> None:
        """Broadcast that something failed.

        Raises:
            WSHubError: As `publish` does.
        """
        self.broadcast(error_message(text))

    def send_process_output(self, process_id: str, line: str, *, overwrites: bool = False) -> None:
        """Publish one line of a process's output to the channel ``process:<process_id>``.

        Args:
            process_id: 1 to 128 characters of ``A-Za-z0-9_.-``.
            line: The line without its end.
            overwrites: Whether the line takes the place of the line before it, as progress
                displays do with a carriage return.

        Raises:
            WSHubError: As `publish` does.
        """
        message = process_output_message(process_id, line, overwrites=overwrites)
        self.publish(message.channel, message)

    def send_process_status(self, process_id: str, status: str, exit_code: int = 0) -> None:
        """Publish that a process changed, to the channel ``process:<process_id>``.

        Raises:
            WSHubError: As `publish` does.
        """
        message = process_status_message(process_id, status, exit_code)
        self.publish(message.channel, message)

    def renew(self) -> None:
        """Start anew in a forked process: a thread of the parent may have held the locks."""
        self._lock = threading.Lock()
        if self._connect is not None:
            # Its pool has a lock as well, for which it would wait even when it is deleted.
            self._client.auto_close_connection_pool = False
            self._client = self._connect()

    def _send(self, channel: str | None, message: Message) -> None:
        name, payload = self._outbound.address(channel, message)
        publish = self._client.spublish if self._is_sharded else self._client.publish
        with self._lock:
            envelope = self._outbound.seal(payload)
            try:
                self._require_primary()
                publish(name, envelope)
            except CONNECTION_ERRORS as exc:
                raise BridgeUnavailableError(
                    f"redis at {self._address} does not take the message: {exc}",
                    may_have_arrived=not isinstance(exc, ResponseError | ReplicaError),
                ) from exc

    def _require_primary(self) -> None:
        # A replica takes messages as well, and its primary does not get them.
        if isinstance(self._client, RedisCluster) or monotonic() < self._role_due:
            return
        try:
            reply = self._client.execute_command("HELLO")
        except (AuthenticationError, ResponseError):
            reply = None
        if is_replica(reply):
            # The next connection may lead to the primary.
            self._client.connection_pool.disconnect(inuse_connections=False)
            raise ReplicaError(self._address)
        self._role_due = monotonic() + ROLE_SECONDS

    @property
    def _address(self) -> str:
        is_cluster = isinstance(self._client, RedisCluster)
        return "the cluster" if is_cluster else describe_pool(self._client.connection_pool)


_publishers: WeakSet[RedisPublisher] = WeakSet()


def _renew_publishers() -> None:
    for publisher in _publishers:
        publisher.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_publishers)
