"""Publishing from asyncio programs that have no hub."""

import asyncio
import contextlib
from asyncio import Future
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis, RedisCluster

from wshub_core import (
    JSON,
    BridgeUnavailableError,
    Message,
    channel_event_message,
    error_message,
    event_message,
    process_output_message,
    process_status_message,
)
from wshub_core.forks import ForkGuard
from wshub_redis.counters import Counters
from wshub_redis.errors import PublisherOpenError
from wshub_redis.outbound import Outbound
from wshub_redis.patience import patient_timeout
from wshub_redis.sender import Sender
from wshub_redis.server import CONNECTION_ERRORS, ROLE_SECONDS, find_server
from wshub_redis.settings import LinkSettings

_SETTLE_SECONDS = 0.5
"""How long what waited for a connection waits on: the hubs were cut off as well, maybe."""


class AsyncRedisPublisher:
    """Publishes to the clients of all hubs that use the same Redis and prefix.

    ::

        async with AsyncRedisPublisher("redis://localhost:6379") as publisher:
            await publisher.send_event("job:done", {"id": 7})

    What is published while a round trip is under way goes out together with the next, in order.
    While Redis cannot be reached, messages wait for ``replay_seconds``.

    Args:
        redis: The URL of a server, or a client of redis-py's asyncio side; see `RedisBridge`.
        prefix: What the bridges of the hubs use.
        timeout: How long Redis may take over an answer, in seconds.
        replay_seconds: How long messages wait for a connection that was lost; 0 for not at all.
        max_queue_bytes: The most bytes of messages that wait.
        max_message_bytes: The most bytes of one message in its envelope: what the hubs allow.
        **options: With a URL, more for redis-py's connections.

    Raises:
        InvalidPrefixError: The prefix is not allowed.
        InvalidConfigError: The URL or an option has a value that cannot work.
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
        self._outbound = Outbound(prefix, max_message_bytes)
        self._server = find_server(redis, options)
        self._settings = LinkSettings(
            timeout=timeout,
            replay_seconds=replay_seconds,
            max_queue_bytes=max_queue_bytes,
        )
        self._sender: Sender | None = None
        self._guard: ForkGuard | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BridgeUnavailableError: Redis cannot be reached, or refuses us.
            PublisherOpenError: It was entered already.
            ForkedProcessError: It was entered in a parent of this process.
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
            settle=lambda: asyncio.sleep(_SETTLE_SECONDS),
            role_interval=ROLE_SECONDS,
            on_replica=lambda: None,
        )
        self._sender, self._guard = sender, ForkGuard("publisher")
        try:
            await sender.open()
        except CONNECTION_ERRORS as exc:
            await self._close()
            raise BridgeUnavailableError(
                f"redis at {self._server.address} does not serve us: {exc}"
            ) from exc
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
        """Send what waits, within ``timeout``, and close the connection.

        Raises:
            ForkedProcessError: It was entered in a parent of this process.
        """
        self._check_process()
        assert self._sender is not None, "it was entered"
        try:
            with contextlib.suppress(TimeoutError):
                async with patient_timeout(self._settings.timeout):
                    await self._sender.flush()
        finally:
            await self._close()

    async def _close(self) -> None:
        sender, self._sender, self._guard = self._sender, None, None
        if sender is not None:
            await sender.close()

    async def publish(self, channel: str, message: Message) -> None:
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
            ForkedProcessError: The publisher was entered in a parent of this process.
        """
        await self._send(channel, message)

    async def broadcast(self, message: Message) -> None:
        """Publish a message to every connection; returns when Redis has it.

        Raises:
            WSHubError: As `publish` does.
        """
        await self._send(None, message)

    async def publish_event(self, channel: str, data: JSON = None) -> None:
        """Publish an event with any data to a channel.

        Raises:
            WSHubError: As `publish` does.
        """
        await self.publish(channel, channel_event_message(channel, data))

    async def send_event(self, name: str, data: JSON = None) -> None:
        """Broadcast that something happened, as ``{"event": name, "data": data}``.

        Raises:
            WSHubError: As `publish` does.
        """
        await self.broadcast(event_message(name, data))

    async def send_error(self, text: str) -> None:
        """Broadcast that something failed.

        Raises:
            WSHubError: As `publish` does.
        """
        await self.broadcast(error_message(text))

    async def send_process_output(
        self, process_id: str, line: str, *, overwrites: bool = False
    ) -> None:
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
        await self.publish(message.channel, message)

    async def send_process_status(self, process_id: str, status: str, exit_code: int = 0) -> None:
        """Publish that a process changed, to the channel ``process:<process_id>``.

        Raises:
            WSHubError: As `publish` does.
        """
        message = process_status_message(process_id, status, exit_code)
        await self.publish(message.channel, message)

    def _check_process(self) -> None:
        if self._guard is not None:
            self._guard.check()

    async def _send(self, channel: str | None, message: Message) -> None:
        self._check_process()
        if self._sender is None:
            raise BridgeUnavailableError("the publisher is not open: use it inside `async with`")
        name, payload = self._outbound.address(channel, message)
        confirmation: Future[None] = asyncio.get_running_loop().create_future()
        self._sender.send(name, self._outbound.seal(payload), confirmation)
        await confirmation
