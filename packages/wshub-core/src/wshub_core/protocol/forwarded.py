"""Messages that another hub has published: validated, and normalized for this hub's clients."""

import re
from datetime import datetime
from typing import Annotated, Any

import msgspec

from wshub_core.values.channels import validate_channel, validate_process_id
from wshub_core.values.errors import MessageDecodeError
from wshub_core.values.messages import REQUESTS_AND_ANSWERS, MessageType

_ANSWER_FIELDS = ("id", "code")
"""Fields that only answers have: a client takes a message with one of them for an answer."""

_NULL = msgspec.Raw(b"null")
_TRUE = msgspec.Raw(b"true")

_is_strict_timestamp = re.compile(
    rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"'
).fullmatch
"""Hubs and clients of go-ws take RFC 3339 to the letter; msgspec also reads a blank for ``T``."""


class _Known(msgspec.Struct, rename="camel"):
    """The fields whose types and values are checked."""

    type: Annotated[str, msgspec.Meta(min_length=1)]
    channel: str | None = None
    process_id: str | None = None
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


_known_decoder = msgspec.json.Decoder(_Known)
# Values stay as they came, so that no number and no digit of a timestamp changes.
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


def normalize_forwarded(payload: bytes, channel: str, now: datetime) -> bytes:
    """Return a message of another hub in the form for this hub's clients.

    The message keeps its timestamp; a message without one is stamped, and Go's zero time counts as
    none. Null fields and the fields of answers are removed. Unknown fields are kept.

    Args:
        payload: The message, one JSON object.
        channel: Where it was published; empty for a broadcast, which keeps the channel it names.
        now: The time, with a zone.

    Raises:
        InvalidChannelError: The channel's name is not allowed, or for a broadcast the name in the
            message is not.
        InvalidProcessIDError: The channel is a process's and its id is not allowed, or the
            message's ``processId`` is not.
        MessageDecodeError: The payload is no message, or is a request or an answer.
    """
    if channel:
        validate_channel(channel)
    known, fields = _decode(payload)
    if known.process_id:
        validate_process_id(known.process_id)
    if channel:
        fields["channel"] = channel
    elif known.channel:
        validate_channel(known.channel)
    if known.timestamp is None or known.timestamp.year == 1:
        fields["timestamp"] = now
    elif not _is_strict_timestamp(fields["timestamp"]):
        fields["timestamp"] = known.timestamp
    if fields.get("overwrites") != _TRUE:
        fields.pop("overwrites", None)
    return _encoder.encode(fields)


def _decode(payload: bytes) -> tuple[_Known, dict[str, Any]]:
    try:
        if b"\n" in payload:
            # Clients of go-ws take every line for a message.
            payload = msgspec.json.format(payload, indent=-1)
        known = _known_decoder.decode(payload)
        fields: dict[str, Any] = _fields_decoder.decode(payload)
        payload.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MessageDecodeError(f"not a message: {exc}") from exc
    if b"null" in payload:
        # Null stands for an absent field, but not every client knows that.
        fields = {name: value for name, value in fields.items() if value != _NULL}
    is_answer = not fields.keys().isdisjoint(_ANSWER_FIELDS)
    if known.type in REQUESTS_AND_ANSWERS or (known.type == MessageType.ERROR and is_answer):
        raise MessageDecodeError(
            f"a message of type {known.type!r} is between one client and its hub: "
            "publish it with a type of your own"
        )
    for name in _ANSWER_FIELDS:
        fields.pop(name, None)
    return known, fields
