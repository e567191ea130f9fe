"""The envelope of messages on Redis (wire protocol, "Redis")."""

import os
import secrets
from itertools import count
from typing import Annotated

import msgspec

from wshub_core import MessageDecodeError

OVERHEAD_BYTES = len(b'{"sourceId":"","id":,"message":}') + 32 + 19
"""How many bytes an envelope has besides its message, at most."""


class Envelope(msgspec.Struct, rename="camel"):
    """A message on its way between hubs.

    Attributes:
        message: The message, one JSON object.
        source_id: Who has published it. Hubs drop their own.
        id: Its number, which grows with each message of a source; None from hubs of go-ws.
    """

    message: msgspec.Raw
    source_id: Annotated[str, msgspec.Meta(max_length=128)] = ""
    id: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None


_decoder = msgspec.json.Decoder(Envelope)


def decode_envelope(data: bytes) -> Envelope:
    """Read an envelope; the message in it is not looked at.

    Raises:
        MessageDecodeError: The data is no envelope.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MessageDecodeError(f"not an envelope: {exc}") from exc


class EnvelopeWriter:
    """Puts messages into envelopes, as one source of them.

    After a fork the child is a source of its own. Hubs tell what is sent a second time by its
    number, and would take the child's messages for the parent's.
    """

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._source_id = secrets.token_hex(16)
        self._head = b'{"sourceId":"%b","id":' % self._source_id.encode()
        self._ids = count(1)

    @property
    def source_id(self) -> str:
        """32 hexadecimal digits that no other source has."""
        return self._source_id

    def write(self, payload: bytes) -> bytes:
        """Return the next envelope."""
        if self._pid != os.getpid():
            self._renew()
        return b'%b%d,"message":%b}' % (self._head, next(self._ids), payload)


class LastIDs:
    """Tells which envelopes have come already, as those that were sent a second time have.

    What a source publishes to one channel goes one way and comes in order. In a cluster two
    channels may go two ways, so each has its own count.

    An envelope is sent a second time soon after the first, so an id is remembered for a while only.
    A forged id that is far ahead then silences its source for that while, and not for ever.

    Args:
        seconds: How long the last id of a source and channel is remembered.
        limit: The most pairs of source and channel to remember; beyond it the one that was silent
            longest goes.
    """

    def __init__(self, seconds: float, limit: int = 16_384) -> None:
        self._seconds = seconds
        self._limit = limit
        self._last: dict[tuple[str, bytes], tuple[int, float]] = {}

    def is_new(self, source_id: str, channel: bytes, envelope_id: int | None, now: float) -> bool:
        """Note an envelope; return whether it has not come before, as far as can be told.

        Envelopes of one source and channel come in the order of their numbers, with gaps.
        """
        if not source_id or envelope_id is None:
            return True
        key = source_id, channel
        last, until = self._last.get(key, (-1, now))
        if envelope_id <= last and now < until:
            # The time goes on: repeating a forged id does not prolong it.
            return False
        # Taken out and put in again, the last is always the most recent.
        self._last.pop(key, None)
        self._last[key] = envelope_id, now + self._seconds
        if len(self._last) > self._limit:
            del self._last[next(iter(self._last))]
        return True
