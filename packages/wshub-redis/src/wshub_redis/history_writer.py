"""The writer of messages with history, for bridges and publishers."""

import asyncio
from asyncio import Future

from wshub_core import HistoryLimits
from wshub_redis.envelope import EnvelopeWriter
from wshub_redis.history_calls import HistoryCalls
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.sender import Sender


class HistoryWriter:
    """Numbers messages with history, and gives them to a sender.

    Args:
        channels: The names of the fleet's channels and keys.
        calls: The arguments of the scripts.
        envelopes: The source of the messages.
    """

    def __init__(
        self, channels: RedisChannels, calls: HistoryCalls, envelopes: EnvelopeWriter
    ) -> None:
        self._channels = channels
        self._calls = calls
        self._envelopes = envelopes

    def append(
        self,
        sender: Sender,
        channel: str,
        payload: bytes,
        limits: HistoryLimits,
        confirmation: Future[None] | None = None,
    ) -> None:
        """Queue a message without waiting.

        Args:
            sender: The sender of the channel.
            channel: The channel.
            payload: The message.
            limits: The size of the history.
            confirmation: As for `Sender.send`.
        """
        # The envelope is numbered and queued without an `await` in between, so that the numbers of
        # a channel grow in the order of its messages.
        envelope_id = self._envelopes.next_id()
        source_id = self._envelopes.source_id.encode()
        call = self._calls.encode_publish(channel, limits, source_id, envelope_id, len(payload))
        sender.append(self._channels.to_redis(channel), call, payload, confirmation)

    async def publish(
        self, sender: Sender, channel: str, payload: bytes, limits: HistoryLimits
    ) -> None:
        """Queue a message, and wait until Redis has it.

        Raises:
            BridgeUnavailableError: Redis does not get the message, or has not confirmed it.
        """
        confirmation: Future[None] = asyncio.get_running_loop().create_future()
        self.append(sender, channel, payload, limits, confirmation)
        await confirmation
