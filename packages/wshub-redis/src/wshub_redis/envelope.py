"""The envelope of messages on Redis (wire protocol, "Between hubs")."""

import secrets
from itertools import count
from typing import Annotated

import msgspec

from wshub_core import MessageDecodeError
from wshub_core.forks import process_generation

OVERHEAD_BYTES = len(b'{"sourceId":"","id":,"message":}') + 32 + 19
"""Maximum number of bytes that an envelope adds to its message: the source id has 32 digits, the
envelope id at most 19."""

POSITION_BYTES = len(b'"epoch":"","offset":,') + 8 + 16
"""Maximum number of bytes that a position adds to an envelope."""


class Envelope(msgspec.Struct, rename="camel"):
    """A message on its way between hubs.

    Attributes:
        message: The message, one JSON object.
        source_id: The id of the publishing bridge or publisher. Bridges drop their own envelopes.
        id: The number of the envelope, which grows with each envelope of a source; None from hubs
            of go-ws.
        epoch: The epoch of the history that has the message; empty if none has it.
        offset: The offset in this history; 0 if no history has the message.
    """

    message: msgspec.Raw
    source_id: Annotated[str, msgspec.Meta(max_length=128)] = ""
    id: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    epoch: Annotated[str, msgspec.Meta(max_length=64)] = ""
    offset: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0


_decoder = msgspec.json.Decoder(Envelope)


def decode_envelope(data: bytes) -> Envelope:
    """Decode an envelope; the message in it is not checked.

    Raises:
        MessageDecodeError: The data is not an envelope.
    """
    # The message stays raw JSON: the hub decodes it once, if it is no duplicate.
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MessageDecodeError(f"not an envelope: {exc}") from exc


class EnvelopeWriter:
    """One source of envelopes: it wraps messages and numbers them.

    After a fork, the writer in the child becomes a new source. Hubs recognize duplicates by source
    and number, and would drop the child's messages as duplicates of the parent's.
    """

    def __init__(self) -> None:
        self._become_new_source()

    def _become_new_source(self) -> None:
        self._generation = process_generation()
        self._source_id = secrets.token_hex(16)
        self._head = b'{"sourceId":"%b","id":' % self._source_id.encode()
        self._ids = count(1)

    @property
    def source_id(self) -> str:
        """The unique id of this source, 32 hexadecimal digits."""
        return self._source_id

    def next_id(self) -> int:
        """Return the id of the next envelope, which goes with `source_id`."""
        # Checked on every call, because a child process can be forked at any time.
        if self._generation != process_generation():
            self._become_new_source()
        return next(self._ids)

    def write(self, payload: bytes) -> bytes:
        """Return the next envelope."""
        envelope_id = self.next_id()
        return b'%b%d,"message":%b}' % (self._head, envelope_id, payload)
