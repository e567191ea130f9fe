"""The message and its JSON form, the same in both directions (wire protocol, "Message")."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import msgspec

from wshub_core.values.encoding import encode
from wshub_core.values.errors import MessageDecodeError, MessageEncodeError
from wshub_core.values.trace_context import is_encoded_traceparent, is_traceparent

JSON: TypeAlias = Any
"""Any JSON value. Messages to encode may also contain values with one obvious JSON form: enums,
dates, UUIDs, `Decimal`, dataclasses, `msgspec.Struct`, models of pydantic, other mappings, sets and
deques, and subclasses of these and of `str`, `int` and `float`."""


class MessageType(StrEnum):
    """The message types that have a meaning for the hub.

    Servers may send messages of other types. Clients should ignore messages of unknown types.
    """

    EVENT = "event"
    """An event of the application; ``data`` is any JSON value."""
    ERROR = "error"
    """A refusal or a failure; ``data`` is a text."""
    PROCESS_OUTPUT = "process_output"
    """A line of output of a process; ``data`` is the line without its line ending."""
    PROCESS_STATUS = "process_status"
    """A change of a process; ``data`` is ``{"exitCode": int, "status": str}``."""
    SUBSCRIBE = "subscribe"
    """A client's request to subscribe to a channel."""
    UNSUBSCRIBE = "unsubscribe"
    """A client's request to unsubscribe from a channel."""
    AUTHENTICATE = "authenticate"
    """A client's new token; ``data`` is the token."""
    AUTHENTICATED = "authenticated"
    """The reply to an accepted token; ``data`` is ``{"expiresAt": Unix time or null}``."""
    SUBSCRIBED = "subscribed"
    """The reply to a ``subscribe`` request with an ``id``."""
    UNSUBSCRIBED = "unsubscribed"
    """The reply to an ``unsubscribe`` request with an ``id``."""
    PUBLISHED = "published"
    """The reply to a published message with an ``id``."""
    PRESENCE = "presence"
    """A client's request for the members of a channel, and its answer."""
    JOIN = "join"
    """Users have come to a channel; ``data`` is a list with a member of each."""
    LEAVE = "leave"
    """Users have gone from a channel; ``data`` is a list with the last member of each."""
    HISTORY_CLEARED = "history_cleared"
    """A notice that the history of a channel was removed; ``data`` is ``{"epoch": str}``."""
    HISTORY_POSITION = "history_position"
    """The newest position of a channel; ``data`` is ``{"epoch": str, "offset": int}``."""
    PING = "ping"
    """A client's request for a ``pong``."""
    PONG = "pong"
    """The reply to a ``ping``."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A decoded message.

    Attributes:
        type: A `MessageType`, or a type of the application.
        channel: The channel of the message; empty for none.
        process_id: The process of the message; empty for none.
        data: Any JSON value. On the wire, None is omitted; all other values are included.
        timestamp: Time at which the server sent the message, with a time zone; None if the message
            is not stamped.
        overwrites: Whether a line of process output replaces the previous line. Progress displays
            replace lines with a carriage return.
        traceparent: The trace context (W3C Trace Context); empty without one.
        epoch: The epoch of the channel's history; empty if the message is not in a history.
        offset: The offset in the channel's history; 0 if the message is not in a history.
    """

    type: str
    channel: str = ""
    process_id: str = ""
    data: JSON = None
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    overwrites: bool = False
    traceparent: str = ""
    epoch: str = ""
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0


class Reply(Message, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The reply to a frame with an ``id``. Frames without an ``id`` get no `Reply`.

    Attributes:
        id: The ``id`` of the frame.
        code: The error code, for programs; empty if there was no error.
    """

    id: str | int
    code: str = ""


_NULL = msgspec.Raw(b"null")

_decoder = msgspec.json.Decoder(Message)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


REQUESTS_AND_ANSWERS = frozenset(
    {
        MessageType.SUBSCRIBE,
        MessageType.UNSUBSCRIBE,
        MessageType.PING,
        MessageType.AUTHENTICATE,
        MessageType.SUBSCRIBED,
        MessageType.UNSUBSCRIBED,
        MessageType.PUBLISHED,
        MessageType.PONG,
        MessageType.AUTHENTICATED,
        MessageType.HISTORY_POSITION,
    }
)
"""The types of messages between one client and its hub, which cannot be published."""


def encode_message(message: Message) -> bytes:
    """Encode a message as one JSON object in UTF-8.

    Numbers are exact. JSON has no NaN and no infinities, so these are refused.

    Raises:
        MessageEncodeError: ``data`` contains a value that JSON cannot represent (such as a
            function, a lone surrogate, NaN, or a cycle), or another field has a value of a wrong
            type. The error text names the value and its path.
    """
    if not (
        isinstance(message.type, str)
        and isinstance(message.channel, str)
        and isinstance(message.process_id, str)
    ):
        raise MessageEncodeError(_explain_fields(message))
    if message.timestamp is not None and message.timestamp.tzinfo is None:
        raise MessageEncodeError("timestamp has no time zone")
    if message.traceparent != "" and not is_traceparent(message.traceparent):
        raise MessageEncodeError("traceparent is no W3C trace context")
    return encode(message, message.data)


def _explain_fields(message: Message) -> str:
    names = ("type", "channel", "process_id")
    name = next(each for each in names if not isinstance(getattr(message, each), str))
    return f"{name} must be a str, not {type(getattr(message, name)).__qualname__}"


def _decode(payload: bytes | bytearray | str) -> Message:
    try:
        return _decoder.decode(payload)
    except msgspec.ValidationError:
        # Rare: a field of a wrong type. Null and an invalid trace context are no errors.
        fields = _fields_decoder.decode(payload)
        if not is_encoded_traceparent(fields.get("traceparent", b"")):
            fields.pop("traceparent", None)
        present = {name: value for name, value in fields.items() if value != _NULL}
        return _decoder.decode(msgspec.json.encode(present))


def decode_message(payload: bytes | bytearray | str) -> Message:
    """Decode a message from one JSON object.

    Unknown fields are ignored. Null counts as an absent field, Go's zero time as an absent
    timestamp, and an invalid trace context as an absent one.

    Raises:
        MessageDecodeError: The payload is not JSON or not an object, has no string ``type``, or has
            a field of a wrong type.
    """
    try:
        message = _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MessageDecodeError(f"not a message: {exc}") from exc
    # Go encodes an unset time as 0001-01-01T00:00:00Z.
    if message.timestamp is not None and message.timestamp.year == 1:
        message = msgspec.structs.replace(message, timestamp=None)
    if message.traceparent and not is_traceparent(message.traceparent):
        message = msgspec.structs.replace(message, traceparent="")
    return message
