"""Messages that another hub has published: checked, and made what this hub's clients get."""

from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec

from wshub_core.values.channels import validate_channel, validate_process_id
from wshub_core.values.errors import MessageDecodeError

_RawOrUnset: TypeAlias = msgspec.Raw | msgspec.UnsetType


class _Forwarded(msgspec.Struct, rename="camel"):
    """A message as it came. Its data is not even decoded, so that no number changes.

    Attributes:
        id, code: What only answers to frames have: a client would take the message for one.
    """

    type: Annotated[str, msgspec.Meta(min_length=1)]
    channel: str | None = None
    process_id: str | None = None
    data: _RawOrUnset = msgspec.UNSET
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    id: _RawOrUnset = msgspec.UNSET
    code: _RawOrUnset = msgspec.UNSET


class _Clean(msgspec.Struct, omit_defaults=True, rename="camel"):
    """The same without what does not belong there."""

    type: str
    channel: str = ""
    process_id: str = ""
    data: _RawOrUnset = msgspec.UNSET
    timestamp: datetime | None = None


_decoder = msgspec.json.Decoder(_Forwarded)
_encoder = msgspec.json.Encoder()


def settle_forwarded(payload: bytes, channel: str, now: datetime) -> bytes:
    """Return a message of another hub as this hub's clients get it.

    It keeps its timestamp, and is stamped if it has none (Go's zero time is none). What is in
    order already stays as it is, to the byte.

    Args:
        payload: The message, one JSON object.
        channel: Where it was published; empty for a broadcast, which keeps the channel it names.
        now: The time, with a zone.

    Raises:
        InvalidChannelError: The channel's name is not allowed.
        InvalidProcessIDError: The channel is a process's and its id is not allowed, or the
            message's ``processId`` is not.
        MessageDecodeError: The payload is no message.
    """
    if channel:
        validate_channel(channel)
    try:
        if b"\n" in payload:
            # Clients of go-ws take every line for a message.
            payload = msgspec.json.format(payload, indent=-1)
        message = _decoder.decode(payload)
        payload.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MessageDecodeError(f"not a message: {exc}") from exc
    if message.process_id:
        validate_process_id(message.process_id)
    timestamp = message.timestamp
    if timestamp is None or timestamp.year == 1:
        timestamp = now
    elif _is_clean(message, payload):
        if message.channel == channel or not channel:
            return payload
        if message.channel is None:
            # As hubs of go-ws send it; names need no escapes.
            return b'%b,"channel":"%b"}' % (payload.rstrip()[:-1], channel.encode())
    return _encoder.encode(
        _Clean(
            type=message.type,
            channel=channel or message.channel or "",
            process_id=message.process_id or "",
            data=message.data,
            timestamp=timestamp,
        )
    )


def _is_clean(message: _Forwarded, payload: bytes) -> bool:
    return (
        message.id is message.code is msgspec.UNSET
        # Null stands for an absent field, but not every client knows that.
        and (message.channel is not None or b'"channel"' not in payload)
        and (message.process_id is not None or b'"processId"' not in payload)
    )
