"""The prepared message: encoded and framed once, shared by everyone who receives it."""

import struct

_FIN_TEXT = 0x81


class PreparedMessage:
    """One message, ready to be written to any number of connections.

    A server's frames are not masked (RFC 6455 section 5.1), so the same bytes serve them all.

    Attributes:
        payload: The JSON object, in UTF-8.
        frame: The payload as one complete WebSocket text frame.
        size: Bytes of the frame, which is what an outbox counts.
    """

    __slots__ = ("frame", "payload", "size")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.frame = _header(len(payload)) + payload
        self.size = len(self.frame)


def _header(length: int) -> bytes:
    """Return the header of an unmasked, final text frame (RFC 6455 section 5.2)."""
    if length < 126:
        return bytes((_FIN_TEXT, length))
    if length < 65_536:
        return struct.pack("!BBH", _FIN_TEXT, 126, length)
    return struct.pack("!BBQ", _FIN_TEXT, 127, length)
