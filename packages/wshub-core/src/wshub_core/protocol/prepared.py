"""The prepared message: encoded and framed once for all connections that receive it."""

import struct
from collections.abc import Sequence

_FIN_TEXT = 0x81
"""First byte of a frame: the final fragment (FIN) of a text message (opcode 1)."""


class PreparedMessage:
    """A message that is ready to be written to any number of connections.

    The frames of a server are not masked (RFC 6455 section 5.1), so all connections can share the
    same bytes.

    Attributes:
        payload: The JSON object, in UTF-8.
        frame: The payload as one complete WebSocket text frame.
        size: Size of the frame in bytes; outboxes count this size.
        count: Number of messages; 1.
        is_kept: Whether outboxes never drop the message.
    """

    __slots__ = ("frame", "payload", "size")
    count = 1
    is_kept = False

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.frame = frame = _header(len(payload)) + payload
        self.size = len(frame)

    @property
    def payloads(self) -> Sequence[bytes]:
        """The payload alone, in a sequence; see `PreparedPage.payloads`."""
        return (self.payload,)


class KeptMessage(PreparedMessage):
    """A message that outboxes never drop: a client that waits for it would wait for ever."""

    __slots__ = ()
    is_kept = True


class PreparedPage(KeptMessage):
    """Several messages of a history that are written together.

    All connections that recover from the same position share the page. ``payload`` is empty.

    Args:
        frames: The frames of the messages.
    """

    __slots__ = ("_frames", "count")

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.payload = b""
        self.frame = b"".join(frames)
        self.size = len(self.frame)
        self.count = len(frames)
        self._frames = frames

    @property
    def payloads(self) -> Sequence[bytes]:
        """The payloads of the messages, for servers that frame messages themselves."""
        return [payload_of(frame) for frame in self._frames]


def payload_of(frame: bytes) -> bytes:
    """Return the payload of a frame that `PreparedMessage` has made."""
    # The second byte is the length, or announces a length in the next 2 or 8 bytes.
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def _header(length: int) -> bytes:
    """Return the header of an unmasked, final text frame (RFC 6455 section 5.2)."""
    # The values 126 and 127 announce a length in the next 2 or 8 bytes.
    if length < 126:
        return bytes((_FIN_TEXT, length))
    if length < 65_536:
        return struct.pack("!BBH", _FIN_TEXT, 126, length)
    return struct.pack("!BBQ", _FIN_TEXT, 127, length)
