"""Messages of a shared history: validated, normalized, and framed with their position."""

from datetime import UTC, datetime

from wshub_core.history.positions import add_position
from wshub_core.protocol.forwarded import normalize_forwarded
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.values.errors import WSHubError
from wshub_core.values.messages import Message, MessageType
from wshub_core.values.preparation import encode_stamped


def prepare_stored(
    payload: bytes, channel: str, epoch: str, offset: int, max_bytes: int
) -> PreparedMessage:
    """Return a stored message for the clients of this hub.

    A message that is invalid or too large is replaced by an error message, so that the offsets of
    the stream have no gap.

    Args:
        payload: The message, one JSON object; a position in it is replaced.
        channel: The channel.
        epoch: The epoch of the stream.
        offset: The offset of the message.
        max_bytes: Maximum size of a message with its position, in bytes.
    """
    try:
        normalized = add_position(
            normalize_forwarded(payload, channel, datetime.now(UTC)), epoch, offset
        )
        if len(normalized) <= max_bytes:
            return PreparedMessage(normalized)
        why = "it is too large"
    except WSHubError as exc:
        why = str(exc)
    text = f"a stored message could not be read: {why[:200]}"
    message = Message(type=MessageType.ERROR, data=text)
    _, replacement = encode_stamped(message, channel, max_bytes)
    return PreparedMessage(add_position(replacement, epoch, offset))
