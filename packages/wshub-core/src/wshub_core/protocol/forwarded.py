"""Validation and normalization of messages that another hub has published."""

import re
from datetime import datetime
from typing import Annotated, Any

import msgspec

from wshub_core.values.channels import BROADCAST, validate_channel, validate_process_id
from wshub_core.values.errors import MessageDecodeError
from wshub_core.values.messages import REQUESTS_AND_ANSWERS, MessageType
from wshub_core.values.trace_context import is_encoded_traceparent, is_traceparent

_ANSWER_FIELDS = ("id", "code")
"""Fields of answers alone. A client would take a message with such a field for an answer."""

_POSITION_FIELDS = ("epoch", "offset")
"""Fields that only a history sets."""

_NULL = msgspec.Raw(b"null")
_TRUE = msgspec.Raw(b"true")

_is_strict_timestamp = re.compile(
    rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"'
).fullmatch
"""The strict form of RFC 3339, which go-ws requires. msgspec also accepts a space for the ``T``."""


class _CheckedFields(msgspec.Struct, rename="camel"):
    """The fields whose types and values are checked."""

    type: Annotated[str, msgspec.Meta(min_length=1)]
    channel: str | None = None
    process_id: str | None = None
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class _PlainFields(msgspec.Struct, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """The fields of a message that needs no change, in the order in which hubs write them."""

    type: str
    channel: str = ""
    process_id: str = ""
    data: msgspec.Raw = msgspec.Raw()
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    overwrites: bool = False
    traceparent: str = ""


_plain_decoder = msgspec.json.Decoder(_PlainFields)
_checked_decoder = msgspec.json.Decoder(_CheckedFields)
# Raw values, so that no number and no digit of a timestamp changes.
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


def normalize_forwarded(payload: bytes, channel: str, now: datetime) -> bytes:
    """Validate a message of another hub, and return it in the form for this hub's clients.

    The message keeps its timestamp. A message without a timestamp, or with the zero time of Go, is
    stamped. Null fields, the fields of answers, the position in a history and an invalid trace
    context are removed. Unknown fields are kept.

    Args:
        payload: The message, one JSON object.
        channel: The channel of the message; empty for a broadcast, whose ``channel`` field stays.
        now: The current time, with a time zone.

    Raises:
        InvalidChannelError: The name of the channel is invalid. For a broadcast, the name in the
            message is invalid.
        InvalidProcessIDError: The process id in the channel's name or the message's ``processId``
            is invalid.
        MessageDecodeError: The payload is not a message, or is a request or an answer.
    """
    if channel:
        validate_channel(channel)
    if _is_normalized(payload, channel):
        return payload
    return examine_forwarded(payload, channel, now)


def examine_forwarded(payload: bytes, channel: str, now: datetime) -> bytes:
    """Validate and normalize a message without a look at the usual case.

    `normalize_forwarded` does the same in less time.

    Args:
        payload: As for `normalize_forwarded`.
        channel: The channel, whose name is valid; empty for a broadcast.
        now: As for `normalize_forwarded`.

    Raises:
        WSHubError: As `normalize_forwarded` raises.
    """
    checked, fields = _decode(payload)
    if checked.process_id:
        validate_process_id(checked.process_id)
    if channel:
        fields["channel"] = channel
    elif checked.channel:
        validate_channel(checked.channel)
    # Year 1 is the zero time of Go, which a Go program sends for a field that was not set.
    if checked.timestamp is None or checked.timestamp.year == 1:
        fields["timestamp"] = now
    elif not _is_strict_timestamp(fields["timestamp"]):
        fields["timestamp"] = checked.timestamp
    # ``true`` is the only value of this field on the wire.
    if fields.get("overwrites") != _TRUE:
        fields.pop("overwrites", None)
    if not is_encoded_traceparent(fields.get("traceparent", b"")):
        fields.pop("traceparent", None)
    return _encoder.encode(fields)


def _is_normalized(payload: bytes, channel: str) -> bool:
    """Return whether a message surely has the form for clients; False if it must be examined.

    Messages of hubs have this form. The check costs a third of the examination.
    """
    try:
        plain = _plain_decoder.decode(payload)
        # Raw values are neither checked for valid UTF-8 nor for line breaks.
        payload.decode()
        # Written again, a message with spaces, with fields twice or in another order, with empty
        # fields, or with a timestamp in another form is not the same.
        if b"\n" in payload or _encoder.encode(plain) != payload:
            return False
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    is_usual = (
        plain.type != ""
        and plain.type not in REQUESTS_AND_ANSWERS
        and channel in (plain.channel, BROADCAST)
        and plain.data != _NULL
        and plain.timestamp is not None
        and plain.timestamp.year > 1
        and (not plain.traceparent or is_traceparent(plain.traceparent))
    )
    # The names come last, so that the first fault of a message decides about its error.
    if is_usual and plain.process_id:
        validate_process_id(plain.process_id)
    if is_usual and channel == BROADCAST and plain.channel:
        validate_channel(plain.channel)
    return is_usual


def _decode(payload: bytes) -> tuple[_CheckedFields, dict[str, Any]]:
    try:
        if b"\n" in payload:
            # Clients of go-ws parse each line as a message, so a message must be one line.
            payload = msgspec.json.format(payload, indent=-1)
        checked = _checked_decoder.decode(payload)
        fields: dict[str, Any] = _fields_decoder.decode(payload)
        # msgspec 0.22 does not check raw values for valid UTF-8.
        payload.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MessageDecodeError(f"not a message: {exc}") from exc
    if b"null" in payload:
        # A null field means an absent field, but not every client treats it so.
        fields = {name: value for name, value in fields.items() if value != _NULL}
    is_answer = not fields.keys().isdisjoint(_ANSWER_FIELDS)
    if checked.type in REQUESTS_AND_ANSWERS or (checked.type == MessageType.ERROR and is_answer):
        raise MessageDecodeError(
            f"a message of type {checked.type!r} is between one client and its hub: "
            "publish it with a type of your own"
        )
    for name in (*_ANSWER_FIELDS, *_POSITION_FIELDS):
        fields.pop(name, None)
    return checked, fields
