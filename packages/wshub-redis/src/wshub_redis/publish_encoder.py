"""The publish encoder: messages of programs without a hub, as a hub would publish them."""

from wshub_core import BROADCAST, Message, prepare_message, validate_channel
from wshub_redis.envelope import OVERHEAD_BYTES, EnvelopeWriter
from wshub_redis.redis_channels import RedisChannels


class PublishEncoder:
    """Encodes messages and wraps them in envelopes, in two steps.

    The steps are separate because only the second one depends on the order of publishing:
    envelopes are numbered.

    Args:
        prefix: The prefix of the fleet.
        max_message_bytes: Maximum size of a message in its envelope, in bytes. Hubs drop messages
            that exceed their own ``max_message_bytes``.

    Raises:
        InvalidPrefixError: The prefix is not allowed.
    """

    def __init__(self, prefix: str, max_message_bytes: int) -> None:
        self._channels = RedisChannels(prefix)
        self._max_message_bytes = max_message_bytes
        self._envelopes = EnvelopeWriter()

    def encode(self, channel: str | None, message: Message) -> tuple[bytes, bytes]:
        """Validate, stamp and encode a message; see `wshub_core.prepare_message`.

        Args:
            channel: The channel; None for a broadcast.
            message: The message.

        Returns:
            The channel on Redis, and the message in JSON.
        """
        _, payload = prepare_message(
            message, channel, max_bytes=self._max_message_bytes, reserved_bytes=OVERHEAD_BYTES
        )
        # The hubs that receive a broadcast reject an invalid name in its channel field.
        if channel is None and message.channel:
            validate_channel(message.channel)
        return self._channels.to_redis(BROADCAST if channel is None else channel), payload

    def wrap(self, payload: bytes) -> bytes:
        """Return the envelope of an encoded message.

        Envelopes must be sent in the order in which they were wrapped: hubs drop an envelope whose
        number is not above that of the envelope before it.
        """
        return self._envelopes.write(payload)
