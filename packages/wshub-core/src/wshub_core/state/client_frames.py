"""What clients may ask for, read from the text of their frames (wire protocol, "Client frames").

A frame that is not understood is ignored and harms nobody: not the connection, not the hub.
"""

from dataclasses import dataclass

import msgspec

from wshub_core.values.errors import MessageDecodeError
from wshub_core.values.messages import Message, decode_message


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Send me the messages of a channel."""

    channel: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Stop sending me the messages of a channel."""

    channel: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""


@dataclass(frozen=True, slots=True)
class Other:
    """A message of a type that the hub does not serve itself."""

    message: Message


class _Frame(msgspec.Struct):
    """The fields that matter. All others may hold anything, so they are not even decoded."""

    type: str
    channel: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


_frame_decoder = msgspec.json.Decoder(_Frame)
_string_decoder = msgspec.json.Decoder(str)


def read_client_frame(
    payload: bytes | bytearray,
) -> Subscribe | Unsubscribe | Ping | Other | None:
    """Read one frame of a client; return None for one that cannot be understood.

    The channel of a subscription is ``channel`` if that is a non-empty string, else ``data`` if
    that is a string. The name is not checked here.
    """
    try:
        frame = _frame_decoder.decode(payload)
        if frame.type == "ping":
            return Ping()
        if frame.type not in ("subscribe", "unsubscribe"):
            return Other(decode_message(payload))
        # Older clients know only `data`.
        channel = frame.channel or _string_decoder.decode(frame.data)
    except (msgspec.MsgspecError, MessageDecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Subscribe(channel) if frame.type == "subscribe" else Unsubscribe(channel)
