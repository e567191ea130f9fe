"""The parser of client frames (wire protocol, "Client frames").

A malformed frame does not end the connection. It is ignored, unless it carries an ``id``: then the
client gets an error as the answer.
"""

import re
from itertools import islice
from typing import Annotated, TypeAlias

import msgspec

from wshub_core.values.errors import MessageDecodeError
from wshub_core.values.messages import Message, decode_message

_MAX_ID = 2**53 - 1
"""Largest integer that all JSON parsers keep exact (RFC 8259 section 6)."""

RequestID: TypeAlias = str | int | None
"""The ``id`` of a frame, which its answer carries too; None for a frame without an ``id``."""


class Subscribe(msgspec.Struct, frozen=True):
    """A request to subscribe to a channel.

    Attributes:
        channel: The channel.
        id: The ``id``.
        history: The history that the client asks for, as JSON; ``null`` for none.
    """

    channel: str
    id: RequestID = None
    history: bytes = b"null"


class Unsubscribe(msgspec.Struct, frozen=True):
    """A request to unsubscribe from a channel."""

    channel: str
    id: RequestID = None


class Ping(msgspec.Struct, frozen=True):
    """A request for a pong message."""

    id: RequestID = None


class Other(msgspec.Struct, frozen=True):
    """A message of any other type."""

    message: Message
    id: RequestID = None


class Malformed(msgspec.Struct, frozen=True):
    """A malformed frame with an ``id``, so the client gets an answer.

    Attributes:
        why: Description of the error, for the answer.
        id: The ``id``.
    """

    why: str
    id: RequestID


_NULL = msgspec.Raw(b"null")


class _Frame(msgspec.Struct):
    """The fields that the parser reads. Other fields may hold any JSON value."""

    type: str
    channel: str | None = None
    # Raw values: `data` may be any JSON value, and an invalid `id` is ignored.
    data: msgspec.Raw = _NULL
    id: msgspec.Raw = _NULL
    history: msgspec.Raw = _NULL


_frame_decoder = msgspec.json.Decoder(_Frame)
_string_decoder = msgspec.json.Decoder(str)
_id_decoder: msgspec.json.Decoder[RequestID] = msgspec.json.Decoder(
    Annotated[str, msgspec.Meta(max_length=128)]
    | Annotated[int, msgspec.Meta(ge=-_MAX_ID, le=_MAX_ID)]
    | None
)


def read_client_frame(
    payload: bytes | bytearray,
) -> Subscribe | Unsubscribe | Ping | Other | Malformed | None:
    """Parse one frame of a client.

    The channel of a subscription is ``channel`` if that is a non-empty string, else ``data`` if
    that is a string. The name of the channel is not validated here. An ``id`` counts only if it is
    an integer of at most 53 bits or a string of at most 128 characters.

    Returns:
        The request, or None for a malformed frame without an ``id``.
    """
    try:
        frame = _frame_decoder.decode(payload)
        frame_id = None if frame.id is _NULL else _read_id(frame.id)
        if frame.type == "ping":
            return Ping(frame_id)
        if frame.type not in ("subscribe", "unsubscribe"):
            return Other(decode_message(payload), frame_id)
        # Older clients send the channel in `data`.
        channel = frame.channel or _string_decoder.decode(frame.data)
    except RecursionError:
        return _describe_malformed(payload, "nested too deeply")
    except (msgspec.MsgspecError, MessageDecodeError, UnicodeDecodeError) as exc:
        return _describe_malformed(payload, str(exc))
    if frame.type == "unsubscribe":
        return Unsubscribe(channel, frame_id)
    return Subscribe(channel, frame_id, bytes(frame.history))


def _read_id(raw: msgspec.Raw) -> RequestID:
    try:
        return _id_decoder.decode(raw)
    except msgspec.DecodeError:
        return None


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]++', re.DOTALL)
"""A string, possibly without its end, or a run of brackets. Possessive quantifiers exclude
backtracking, so the time is linear in the size of the frame.
"""

_MAX_TOKENS = 10_000
"""Number of tokens in which an ``id`` is searched for: a few milliseconds of work."""

_ID = re.compile(rb'\s*+:\s*+("(?:[^"\\]++|\\.)*+"|-?\d++)\s*+[,}]')
"""The colon, the value and the end of the field, behind the key ``id``."""


def _describe_malformed(payload: bytes | bytearray, why: str) -> Malformed | None:
    frame_id = _find_id(payload)
    return None if frame_id is None else Malformed(why, frame_id)


def _find_id(payload: bytes | bytearray) -> RequestID:
    """Return the ``id`` of a malformed object; None if no ``id`` is found.

    The payload may be invalid JSON, so it is searched as text.
    """
    # Only the fields of the outermost object count, at depth 1.
    depth = 0
    for token in islice(_TOKEN.finditer(payload), _MAX_TOKENS):
        text = token[0]
        if text[0] != ord('"'):
            depth += text.count(b"[") + text.count(b"{") - text.count(b"]") - text.count(b"}")
        elif depth == 1 and text == b'"id"':
            value = _ID.match(payload, token.end())
            if value is not None:
                return _read_id(msgspec.Raw(value[1]))
    return None
