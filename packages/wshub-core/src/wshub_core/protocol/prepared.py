"""The prepared message: encoded and framed once for all connections that receive it."""

import struct
from collections.abc import Sequence

from wshub_core.protocol.deflate import deflate
from wshub_core.protocol.server_sent_events import SentEvent, encode_event

_FIN_TEXT = 0x81
"""First byte of a frame: the final fragment (FIN) of a text message (opcode 1)."""

_FIN_TEXT_COMPRESSED = 0xC1
"""The same with the bit RSV1, which marks a compressed message (RFC 7692 section 6)."""


class PreparedMessage:
    """A message that is ready to be written to any number of connections.

    The frames of a server are not masked (RFC 6455 section 5.1), so all connections can share the
    same bytes.

    Attributes:
        payload: The JSON object, in UTF-8.
        frame: The payload as one complete WebSocket text frame.
        size: Size of the frame in bytes; outboxes count this size, also if the frame is compressed.
        count: Number of messages; 1.
        is_kept: Whether outboxes never drop the message.
    """

    __slots__ = ("_compressed_frame", "_events", "frame", "payload", "size")
    count = 1
    is_kept = False

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.frame = _header(_FIN_TEXT, len(payload)) + payload
        self.size = len(self.frame)
        self._compressed_frame: bytes | None = None
        self._events: Sequence[SentEvent] | None = None

    def compressed_frame(self, min_bytes: int) -> bytes:
        """Return the frame for connections with compression; compress it at the first call.

        Args:
            min_bytes: Size of a payload below which it is not compressed.

        Returns:
            The compressed frame, or `frame` if that is not larger.
        """
        if self._compressed_frame is None:
            self._compressed_frame = self.frame
            if len(self.payload) >= min_bytes:
                compressed = deflate(self.payload)
                if len(compressed) < len(self.payload):
                    header = _header(_FIN_TEXT_COMPRESSED, len(compressed))
                    self._compressed_frame = header + compressed
        return self._compressed_frame

    @property
    def payloads(self) -> Sequence[bytes]:
        """The payload alone, in a sequence; see `PreparedPage.payloads`."""
        return (self.payload,)

    @property
    def events(self) -> Sequence[SentEvent]:
        """The message for event streams, in a sequence; it is encoded at the first use."""
        if self._events is None:
            self._events = tuple(map(encode_event, self.payloads))
        return self._events


class KeptMessage(PreparedMessage):
    """A message that outboxes never drop: a client that waits for it would wait for ever."""

    __slots__ = ()
    is_kept = True


class PreparedPage(KeptMessage):
    """Several messages of a history that are written together.

    All connections that recover from the same position share the page. ``payload`` is empty. Pages
    are not compressed: that would take about 10 microseconds for each of their messages.

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
        self._events = None

    def compressed_frame(self, min_bytes: int) -> bytes:
        """Return the frames of the messages, uncompressed."""
        return self.frame

    @property
    def payloads(self) -> Sequence[bytes]:
        """The payloads of the messages, for servers that frame messages themselves."""
        return [payload_of(frame) for frame in self._frames]


def payload_of(frame: bytes) -> bytes:
    """Return the payload of a frame that `PreparedMessage` has made."""
    # The second byte is the length, or announces a length in the next 2 or 8 bytes.
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def _header(first_byte: int, length: int) -> bytes:
    """Return the header of an unmasked frame (RFC 6455 section 5.2)."""
    # The values 126 and 127 announce a length in the next 2 or 8 bytes.
    if length < 126:
        return bytes((first_byte, length))
    if length < 65_536:
        return bytes((first_byte, 126, length >> 8, length & 255))
    return struct.pack("!BBQ", first_byte, 127, length)
