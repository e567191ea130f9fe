"""The position of a message in its JSON form."""

import secrets

import msgspec

from wshub_core.protocol.prepared import payload_of
from wshub_core.values.errors import MessageDecodeError
from wshub_core.values.messages import Message, MessageType, decode_message


def new_epoch() -> str:
    """Return a random name for a stream, of 8 characters."""
    return secrets.token_hex(4)


def add_position(payload: bytes, epoch: str, offset: int) -> bytes:
    """Return a message with its position.

    Args:
        payload: The message, one JSON object with at least one field.
        epoch: The epoch.
        offset: The offset.
    """
    return b'%b,"epoch":"%b","offset":%d}' % (payload[:-1], epoch.encode(), offset)


def decode_frame(frame: bytes, channel: str, epoch: str, offset: int) -> Message:
    """Return the message in a frame of a stream.

    JSON allows numbers that exceed a float. They are delivered to clients, but cannot be decoded
    here; the result is an error message then.
    """
    try:
        message = decode_message(payload_of(frame))
    except MessageDecodeError as exc:
        message = Message(type=MessageType.ERROR, channel=channel, data=str(exc))
    return msgspec.structs.replace(message, epoch=epoch, offset=offset)
