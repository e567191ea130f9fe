"""The publish encoder: messages of programs without a hub, as a hub would publish them."""

from datetime import UTC, datetime

import msgspec

from wshub_core import (
    Message,
    MessageTooLargeError,
    encode_message,
    validate_channel,
    validate_published,
)
from wshub_redis.envelope import OVERHEAD_BYTES, EnvelopeWriter
from wshub_redis.redis_channels import RedisChannels


class PublishEncoder:
    """Encodes messages and wraps them in envelopes, in two steps.

    The steps are separate because only the second one depends on the order of publishing:
    envelopes are numbered.

    Args:
        prefix: The prefix of the fleet.
        max_message_bytes: The maximum size of a message in its envelope, in bytes. Hubs drop
            messages that exceed their own ``max_message_bytes``.

    Raises:
        InvalidPrefixError: The prefix is not allowed.
    """

    def __init__(self, prefix: str, max_message_bytes: int) -> None:
        self._channels = RedisChannels(prefix)
        self._limit = max_message_bytes - OVERHEAD_BYTES
        self._envelopes = EnvelopeWriter()

    def encode(self, channel: str | None, message: Message) -> tuple[bytes, bytes]:
        """Validate, stamp and encode a message.

        Args:
            channel: The channel; None for a broadcast.
            message: The message.

        Returns:
            The channel on Redis, and the message in JSON.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            ReservedTypeError: Messages of this type are between one client and its hub.
            InvalidProcessIDError: The process id in the channel or the message is not allowed.
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds the limit.
        """
        validate_published(message, channel)
        if channel is None and message.channel:
            validate_channel(message.channel)
        named = channel or message.channel
        payload = encode_message(
            msgspec.structs.replace(message, channel=named, timestamp=datetime.now(UTC))
        )
        if len(payload) > self._limit:
            raise MessageTooLargeError(len(payload), self._limit, reserved=OVERHEAD_BYTES)
        return self._channels.to_redis(channel or ""), payload

    def wrap(self, payload: bytes) -> bytes:
        """Return the envelope of an encoded message.

        Envelopes must be sent in the order in which they were wrapped: hubs drop an envelope whose
        number is not above that of the envelope before it.
        """
        return self._envelopes.write(payload)
