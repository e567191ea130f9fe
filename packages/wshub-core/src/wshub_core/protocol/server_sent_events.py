"""Server-sent events: the form of messages in an event stream (HTML, "Server-sent events")."""

import re
from typing import NamedTuple

import msgspec

from wshub_core.values.history import Position
from wshub_core.values.messages import MessageType

_LINE_END = re.compile(rb"\r\n|\r|\n")
"""The ends of lines in an event stream."""

_RETRY_AFTER = re.compile(r"retry-after: (\d{1,6})")
"""The reason of a close that asks the client to wait, in seconds."""


class SentEvent(NamedTuple):
    """A message as an event, which all event streams share.

    Attributes:
        text: The event without an ``id``.
        type: The type of the message.
        channel: The channel of the message; empty for none.
        position: The position of the message in the history of its channel. For the answer to a
            subscription and for notices, the position that they tell. None without a history.
    """

    text: bytes
    type: str
    channel: str
    position: Position | None


class _Told(msgspec.Struct):
    """The fields of the ``data`` of answers and notices."""

    epoch: str = ""
    offset: int = 0
    after: int | None = None


class _Fields(msgspec.Struct):
    """The fields of a message that tell its position."""

    type: str
    channel: str = ""
    epoch: str = ""
    offset: int = 0
    data: msgspec.Raw = msgspec.Raw()


_fields_decoder = msgspec.json.Decoder(_Fields)
_told_decoder = msgspec.json.Decoder(_Told)

POSITION_TYPES = frozenset(
    {MessageType.SUBSCRIBED, MessageType.HISTORY_CLEARED, MessageType.HISTORY_POSITION}
)
"""The types of messages that tell a position in their ``data``."""


def encode_event(payload: bytes) -> SentEvent:
    """Return a message as an event.

    Args:
        payload: The message, one JSON object.
    """
    # JSON allows line ends between its tokens. Each line of a message needs a field of its own, or
    # the rest of the message could be taken for other fields.
    lines = _LINE_END.split(payload)
    text = b"data: " + b"\ndata: ".join(lines) + b"\n\n"
    try:
        fields = _fields_decoder.decode(payload)
        return SentEvent(text, fields.type, fields.channel, _position_of(fields))
    except msgspec.MsgspecError:
        # An application may send any fields to a single connection.
        return SentEvent(text, "", "", None)


def _position_of(fields: _Fields) -> Position | None:
    epoch, offset = fields.epoch, fields.offset
    if not epoch and fields.type in POSITION_TYPES:
        told = _told_decoder.decode(fields.data or b"{}")
        epoch, offset = told.epoch, told.offset if told.after is None else told.after
    return Position(epoch, offset) if epoch else None


def encode_retry(seconds: float) -> bytes:
    """Return the field that tells a client the time after which it connects again."""
    return b"retry: %d\n\n" % (seconds * 1_000)


def encode_close(code: int, reason: str) -> bytes:
    """Return the event that tells a client the close code and the close reason."""
    data = msgspec.json.encode({"code": code, "reason": reason})
    match = _RETRY_AFTER.fullmatch(reason)
    # A drained hub spreads its clients itself and tells them 0. A browser would keep that time for
    # all further attempts, also if the next hub is down.
    retry = encode_retry(max(1, int(match[1]))) if match else b""
    return retry + b"event: close\ndata: " + data + b"\n\n"


def encode_heartbeat(seconds: float) -> bytes:
    """Return the comment that tells a client the time within which it gets more bytes."""
    return b": heartbeat %g\n\n" % seconds
