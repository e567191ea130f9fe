"""The message and its JSON form, the same in every direction (wire protocol, "Message")."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import msgspec

from wshub_core.values.encoding import encode
from wshub_core.values.errors import MessageDecodeError, MessageEncodeError

JSON: TypeAlias = Any
"""Anything JSON can hold. On the way out also what has one plain form in it: enums, dates, UUIDs,
`Decimal`, dataclasses, `msgspec.Struct`, models of pydantic, other mappings, sets and deques, and
subclasses of these and of `str`, `int` and `float`."""


class MessageType(StrEnum):
    """The types of message that the hub itself gives a meaning.

    Servers may send other types; clients that do not know a type should ignore it.
    """

    EVENT = "event"
    """Something happened; ``data`` is the application's."""
    ERROR = "error"
    """Something was refused or failed; ``data`` is a text."""
    PROCESS_OUTPUT = "process_output"
    """One line that a process printed; ``data`` is the line without its end."""
    PROCESS_STATUS = "process_status"
    """A process changed; ``data`` is ``{"exitCode": int, "status": str}``."""
    SUBSCRIBE = "subscribe"
    """A client says, send me the messages of a channel."""
    UNSUBSCRIBE = "unsubscribe"
    """A client says, stop that."""
    AUTHENTICATE = "authenticate"
    """A client says, this is my new token; ``data`` is the token."""
    AUTHENTICATED = "authenticated"
    """The answer to a token that was taken; ``data`` is ``{"expiresAt": Unix time or null}``."""
    SUBSCRIBED = "subscribed"
    """The answer to a subscription that carried an ``id``."""
    UNSUBSCRIBED = "unsubscribed"
    """The answer to the end of a subscription that carried an ``id``."""
    PUBLISHED = "published"
    """The answer to a published message that carried an ``id``."""
    PING = "ping"
    """A client asks, are you there?"""
    PONG = "pong"
    """The answer to a ping."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One decoded message, the unit that the hub carries.

    Attributes:
        type: One of `MessageType`, or a name of the application's own.
        channel: The channel it belongs to; empty for none.
        process_id: The process it is about; empty for none.
        data: Any JSON value; None is left out on the wire, and nothing else is.
        timestamp: When the server sent it, with a zone; None for not stamped.
        overwrites: Whether a line of process output takes the place of the line before it, as
            progress displays do with a carriage return.
    """

    type: str
    channel: str = ""
    process_id: str = ""
    data: JSON = None
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    overwrites: bool = False


class Reply(Message, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The answer to a frame that carries an ``id``; a frame without one gets none of these.

    Attributes:
        id: The frame's own.
        code: What went wrong, for programs; empty if nothing did.
    """

    id: str | int
    code: str = ""


_decoder = msgspec.json.Decoder(Message)


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
    }
)
"""The types of messages between one client and its hub, which nobody publishes."""


def encode_message(message: Message) -> bytes:
    """Write a message as one JSON object in UTF-8.

    Numbers stay exact. There is no JSON for NaN and the infinities, so they are refused.

    Raises:
        MessageEncodeError: ``data`` holds something that JSON cannot (a function, a lone
            surrogate, NaN, a cycle), or another field has a value of another type. The text says
            which value at which place.
    """
    for name in ("type", "channel", "process_id"):
        value = getattr(message, name)
        if not isinstance(value, str):
            raise MessageEncodeError(f"{name} must be a str, not {type(value).__qualname__}")
    if message.timestamp is not None and message.timestamp.tzinfo is None:
        raise MessageEncodeError("timestamp has no time zone")
    return encode(message, message.data)


def decode_message(payload: bytes | bytearray | str) -> Message:
    """Read a message from one JSON object.

    Unknown fields are ignored. Null stands for an absent field, and so does Go's zero time for an
    absent timestamp.

    Raises:
        MessageDecodeError: The payload is not JSON, not an object, has no string ``type``, or has
            a field of another type than the message's.
    """
    try:
        message = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MessageDecodeError(f"not a message: {exc}") from exc
    # 0001-01-01T00:00:00Z is how Go writes a time that was never set.
    if message.timestamp is not None and message.timestamp.year == 1:
        return msgspec.structs.replace(message, timestamp=None)
    return message
