"""The rules for published messages: validate, stamp, encode, check the size.

The hub and all publishers use these functions, so each rule has one implementation.
"""

from datetime import UTC, datetime

from msgspec.structs import replace

from wshub_core.values.channels import FLEET_CHANNEL, validate_channel, validate_process_id
from wshub_core.values.errors import (
    MessageTooLargeError,
    PublishDeniedError,
    ReservedTypeError,
)
from wshub_core.values.messages import (
    REQUESTS_AND_ANSWERS,
    Message,
    MessageType,
    Reply,
    encode_message,
)

_RESERVED = REQUESTS_AND_ANSWERS | {MessageType.HISTORY_CLEARED}
"""The types that only hubs send."""


def prepare_message(
    message: Message, channel: str | None, *, max_bytes: int, reserved_bytes: int = 0
) -> tuple[Message, bytes]:
    """Validate, stamp and encode a message to publish.

    Args:
        message: The message. Its timestamp is set, and its ``channel`` unless it is broadcast.
        channel: The channel to publish to; None for a broadcast.
        max_bytes: Maximum size of the payload, in bytes.
        reserved_bytes: Part of ``max_bytes`` that a bridge needs for its envelope.

    Returns:
        The stamped message and its payload, which is one JSON object in UTF-8.

    Raises:
        InvalidChannelError: The name of the channel is invalid.
        InvalidProcessIDError: The process id in the channel or in the message is invalid.
        PublishDeniedError: The channel is that of the operations of the fleet.
        ReservedTypeError: Messages of this type are only sent between one client and its hub.
        MessageEncodeError: The message cannot be encoded as JSON.
        MessageTooLargeError: The payload exceeds the limit.
        TypeError: The message is not a `Message`, or the channel is not a `str`.
    """
    if not isinstance(message, Message):
        raise TypeError(_explain_type(message, is_broadcast=channel is None))
    if message.type in _RESERVED or isinstance(message, Reply):
        raise ReservedTypeError(message.type)
    # The channel of a broadcast is not checked: a hub without a bridge ignores it.
    if channel is not None:
        validate_channel(channel)
        # An application may publish to a channel that a client has chosen.
        if channel == FLEET_CHANNEL:
            raise PublishDeniedError(channel)
    if message.process_id:
        validate_process_id(message.process_id)
    return encode_stamped(message, channel or message.channel, max_bytes, reserved_bytes)


def encode_stamped(
    message: Message, channel: str, max_bytes: int, reserved_bytes: int = 0
) -> tuple[Message, bytes]:
    """Stamp and encode a message without validating it; see `prepare_message`."""
    # The timestamp is part of the payload, so the size is checked after stamping.
    if message.epoch or message.offset:
        # Only a history gives a message its position.
        message = replace(message, epoch="", offset=0)
    stamped = replace(message, channel=channel, timestamp=datetime.now(UTC))
    payload = encode_message(stamped)
    limit = max_bytes - reserved_bytes
    if len(payload) > limit:
        raise MessageTooLargeError(len(payload), limit, reserved=reserved_bytes)
    return stamped, payload


def _explain_type(value: object, is_broadcast: bool) -> str:
    """Return the error text for a value that is no message; it names the method for plain data."""
    call = "broadcast(message)" if is_broadcast else "publish(channel, message)"
    other = "send_event(name, data)" if is_broadcast else "publish_event(channel, data)"
    kind = type(value).__qualname__
    return f"{call} takes a Message, not {kind}: use {other} for plain data"
