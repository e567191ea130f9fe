"""Messages of programs without a hub: checked and put into envelopes as a hub would."""

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
from wshub_redis.names import Names


class Outbound:
    """Turns messages into what goes to Redis.

    Args:
        prefix: What tells the fleet of hubs from others.
        max_message_bytes: The most bytes of one message and its envelope; hubs drop what exceeds
            their own ``max_message_bytes``.

    Raises:
        InvalidPrefixError: The prefix is not allowed.
    """

    def __init__(self, prefix: str, max_message_bytes: int) -> None:
        self._names = Names(prefix)
        self._limit = max_message_bytes - OVERHEAD_BYTES
        self._envelopes = EnvelopeWriter()

    def address(self, channel: str | None, message: Message) -> tuple[bytes, bytes]:
        """Check, stamp and encode a message.

        Args:
            channel: Where to publish it; None for a broadcast.
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
        return self._names.channel(channel or ""), payload

    def seal(self, payload: bytes) -> bytes:
        """Return the envelope; envelopes have to be sent in the order in which they are sealed."""
        return self._envelopes.write(payload)
