"""What clients may ask for, read from the text of their frames (wire protocol, "Client frames").

A frame that is not understood harms nobody: not the connection, not the hub. It is ignored, unless
it carries an ``id``, which asks for an answer.
"""

import re
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, TypeAlias

import msgspec

from wshub_core.values.errors import MessageDecodeError
from wshub_core.values.messages import Message, decode_message

_GREATEST_ID = 2**53 - 1
"""The integers that every reader of JSON keeps exact (RFC 8259 section 6)."""

RequestID: TypeAlias = str | int | None
"""What a client calls a frame that it wants an answer to; None for one that needs none."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Send me the messages of a channel."""

    channel: str
    id: RequestID = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Stop sending me the messages of a channel."""

    channel: str
    id: RequestID = None


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""

    id: RequestID = None


@dataclass(frozen=True, slots=True)
class Other:
    """A message of a type that has to do with more than the connection itself."""

    message: Message
    id: RequestID = None


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that cannot be understood and wants an answer.

    Attributes:
        why: What is wrong with it.
    """

    why: str
    id: RequestID


class _Frame(msgspec.Struct):
    """The fields that matter. All others may hold anything, so they are not even decoded."""

    type: str
    channel: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    id: msgspec.Raw = msgspec.Raw(b"null")


_frame_decoder = msgspec.json.Decoder(_Frame)
_string_decoder = msgspec.json.Decoder(str)
_id_decoder: msgspec.json.Decoder[RequestID] = msgspec.json.Decoder(
    Annotated[str, msgspec.Meta(max_length=128)]
    | Annotated[int, msgspec.Meta(ge=-_GREATEST_ID, le=_GREATEST_ID)]
    | None
)


def read_client_frame(
    payload: bytes | bytearray,
) -> Subscribe | Unsubscribe | Ping | Other | Malformed | None:
    """Read one frame of a client; return None for one that cannot be understood and has no ``id``.

    The channel of a subscription is ``channel`` if that is a non-empty string, else ``data`` if
    that is a string. The name is not checked here. An ``id`` that is neither an integer of at most
    53 bits nor a string of at most 128 characters is none.
    """
    try:
        frame = _frame_decoder.decode(payload)
        frame_id = _read_id(frame.id)
        if frame.type == "ping":
            return Ping(frame_id)
        if frame.type not in ("subscribe", "unsubscribe"):
            return Other(decode_message(payload), frame_id)
        # Older clients know only `data`.
        channel = frame.channel or _string_decoder.decode(frame.data)
    except RecursionError:
        return _note_malformed(payload, "nested too deeply")
    except (msgspec.MsgspecError, MessageDecodeError, UnicodeDecodeError) as exc:
        return _note_malformed(payload, str(exc))
    request = Subscribe if frame.type == "subscribe" else Unsubscribe
    return request(channel, frame_id)


def _read_id(raw: msgspec.Raw) -> RequestID:
    try:
        return _id_decoder.decode(raw)
    except msgspec.DecodeError:
        return None


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]++', re.DOTALL)
"""A string, which may lack its end, or brackets in a row. No byte is looked at twice."""

_MOST_TOKENS = 10_000
"""How far an ``id`` is searched for: a few milliseconds of work."""

_ID = re.compile(rb'\s*+:\s*+("(?:[^"\\]++|\\.)*+"|-?\d++)\s*+[,}]')
"""What follows the key ``id``."""


def _note_malformed(payload: bytes | bytearray, why: str) -> Malformed | None:
    frame_id = _find_id(payload)
    return None if frame_id is None else Malformed(why, frame_id)


def _find_id(payload: bytes | bytearray) -> RequestID:
    """Return the ``id`` of an object that is no valid JSON; None if there is none to be found."""
    depth = 0
    for token in islice(_TOKEN.finditer(payload), _MOST_TOKENS):
        text = token[0]
        if text[0] != ord('"'):
            depth += text.count(b"[") + text.count(b"{") - text.count(b"]") - text.count(b"}")
        elif depth == 1 and text == b'"id"':
            value = _ID.match(payload, token.end())
            if value is not None:
                return _read_id(msgspec.Raw(value[1]))
    return None
