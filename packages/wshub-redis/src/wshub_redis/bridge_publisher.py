"""The publishing of a bridge: messages of this hub to Redis."""

import asyncio
import contextlib

from wshub_redis.envelope import EnvelopeWriter
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.router import ShardRouter
from wshub_redis.sender import Sender
from wshub_redis.timeouts import stall_tolerant_timeout


class BridgePublisher:
    """Wraps the messages of a hub in envelopes, and gives them to the sender of their channel.

    Args:
        channels: The names of the fleet's channels.
        envelopes: The bridge's source of envelopes.
        router: The shards.
    """

    def __init__(
        self, channels: RedisChannels, envelopes: EnvelopeWriter, router: ShardRouter
    ) -> None:
        self._channels = channels
        self._envelopes = envelopes
        self._router = router

    def forward(self, channel: str, payload: bytes) -> None:
        """Queue an encoded message; see `wshub_core.Bridge.forward`."""
        # The envelope is numbered and queued without an `await` in between, so that the numbers of
        # a channel grow in the order of its messages.
        name = self._channels.to_redis(channel)
        self._router.shard_for(name).sender.send(name, self._envelopes.write(payload))

    async def publish(self, channel: str, payload: bytes) -> None:
        """Queue an encoded message, and wait until Redis has it.

        Raises:
            BridgeUnavailableError: Redis does not get the message, or has not confirmed it.
        """
        name = self._channels.to_redis(channel)
        await self._router.shard_for(name).sender.publish(name, self._envelopes.write(payload))

    async def drain(self) -> None:
        """Wait while a publish queue is more than half full."""
        for sender in self._senders():
            await sender.drain()

    async def flush(self, timeout: float) -> None:
        """Wait until all messages are confirmed, or for a limited time.

        Args:
            timeout: Maximum time in seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with stall_tolerant_timeout(timeout):
                await asyncio.gather(*(sender.flush() for sender in self._senders()))

    def _senders(self) -> list[Sender]:
        # A list, because the shards can change in the meantime.
        return [sender for shard in self._router.shards for sender in shard.senders]
