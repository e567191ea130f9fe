"""The publish encoder: messages of programs without a hub, as a hub would publish them."""

from collections.abc import Mapping
from typing import NamedTuple

from wshub_core import (
    BROADCAST,
    ChannelPatterns,
    HistoryLimits,
    InvalidConfigError,
    Message,
    prepare_message,
    validate_channel,
)
from wshub_redis.envelope import OVERHEAD_BYTES, POSITION_BYTES, EnvelopeWriter
from wshub_redis.redis_channels import RedisChannels


class EncodedMessage(NamedTuple):
    """A message to publish.

    Attributes:
        channel: The channel, or `wshub_core.BROADCAST`.
        payload: The message, one JSON object.
        limits: The size of the history that gets the message; None if there is none.
    """

    channel: str
    payload: bytes
    limits: HistoryLimits | None


class PublishEncoder:
    """Encodes messages and wraps them in envelopes, in two steps.

    The steps are separate because only the second one depends on the order of publishing:
    envelopes are numbered. They must be sent in the order in which they were numbered: hubs drop an
    envelope whose number is not above that of the envelope before it.

    Args:
        prefix: The prefix of the fleet.
        max_message_bytes: Maximum size of a message in its envelope, in bytes. Hubs drop messages
            that exceed their own ``max_message_bytes``.
        history: The size of the history of channels, by pattern: the value of the hubs.
        is_sharded: Whether the fleet uses sharded publishing.

    Attributes:
        channels: The names of the fleet's channels and keys.
        envelopes: The source of envelopes.

    Raises:
        InvalidPrefixError: The prefix is not allowed.
        InvalidConfigError: A pattern or a size is invalid.
    """

    def __init__(
        self,
        prefix: str,
        max_message_bytes: int,
        history: Mapping[str, HistoryLimits | None],
        *,
        is_sharded: bool,
    ) -> None:
        self.channels = RedisChannels(prefix, is_sharded=is_sharded)
        self.envelopes = EnvelopeWriter()
        self._max_message_bytes = max_message_bytes
        self._history = ChannelPatterns("history", history)
        for pattern, limits in history.items():
            if limits is not None and not isinstance(limits, HistoryLimits):
                raise InvalidConfigError(f"history[{pattern!r}] must be HistoryLimits(…)")

    def encode(self, channel: str | None, message: Message) -> EncodedMessage:
        """Validate, stamp and encode a message; see `wshub_core.prepare_message`.

        Args:
            channel: The channel; None for a broadcast.
            message: The message.
        """
        limits = self._history.find(channel) if isinstance(channel, str) else None
        _, payload = prepare_message(
            message,
            channel,
            max_bytes=self._max_message_bytes,
            reserved_bytes=OVERHEAD_BYTES + (0 if limits is None else POSITION_BYTES),
        )
        # The hubs that receive a broadcast reject an invalid name in its channel field.
        if channel is None and message.channel:
            validate_channel(message.channel)
        return EncodedMessage(BROADCAST if channel is None else channel, payload, limits)
