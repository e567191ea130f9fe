"""Frames of WebSocket (RFC 6455) and compressed messages (RFC 7692), as a client needs them."""

import zlib
from collections.abc import Iterator

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def client_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return a masked frame. The mask is zero, so that the payload stays as it is."""
    size = len(payload)
    if size < 126:
        return bytes([0x80 | opcode, 0x80 | size, 0, 0, 0, 0]) + payload
    assert size < 65536
    return bytes([0x80 | opcode, 0x80 | 126]) + size.to_bytes(2, "big") + bytes(4) + payload


class FrameReader:
    """Assemble the messages of a server from pieces of its stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._parts: list[bytes] = []
        self._compressed = False
        self._inflater: zlib._Decompress | None = None
        self._context_takeover = True

    def inflate_messages(self, context_takeover: bool) -> None:
        """Expect compressed messages from now on."""
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._context_takeover = context_takeover

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the opcode and the payload of each message that is complete."""
        if self._rest:
            data = self._rest + data
        start, end = 0, len(data)
        while end - start >= 2:
            first, size, payload = data[start], data[start + 1], start + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                if end - payload < width:
                    break
                size = int.from_bytes(data[payload : payload + width], "big")
                payload += width
            if end - payload < size:
                break
            start = payload + size
            if first == 0x80 | TEXT:
                yield TEXT, data[payload:start]
            elif first & 8:
                yield first & 15, data[payload:start]
            else:
                yield from self._add_part(first, data[payload:start])
        self._rest = data[start:]

    def _add_part(self, first: int, part: bytes) -> Iterator[tuple[int, bytes]]:
        """Handle the frames that are seldom: binary, compressed, and in pieces."""
        if first & 15:
            self._compressed = bool(first & 0x40)
            self._parts.clear()
        self._parts.append(part)
        if first & 0x80:
            message = b"".join(self._parts)
            if self._compressed:
                assert self._inflater is not None, "the server compresses without an agreement"
                message = self._inflater.decompress(message + b"\x00\x00\xff\xff")
                if not self._context_takeover:
                    self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            yield TEXT, message
