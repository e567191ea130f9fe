"""The payloads of permessage-deflate (RFC 7692), without context takeover.

Each message is compressed and decompressed alone. The state of zlib exists only during one call, so
a connection needs no memory for it.
"""

import zlib

WINDOW_BITS = 12
"""Window of compressed messages: 4 KiB. A window of 32 KiB makes messages of 64 KiB only 4 %
smaller, and fewer clients could share it: they may ask for a smaller one.
"""

_MEMORY_LEVEL = 5
"""Size of the tables of zlib, as in `websockets`. Larger ones take time and hardly save bytes."""

_TAIL = b"\x00\x00\xff\xff"
"""End of the empty block behind a message, which is not sent (RFC 7692 section 7.2.1)."""

_FINAL_BLOCK = b"\x01\x00\x00\xff\xff"
"""An empty final block. It shows that the block before it was complete."""

_AFTER_FINAL_BLOCK = (b"", *(padding + _TAIL + _FINAL_BLOCK for padding in (b"", b"\x00")))
"""The data behind the final block: none behind `_FINAL_BLOCK`. A client may send a final block
itself, and an empty block behind it (RFC 7692 section 7.2.3.4).
"""


def deflate(payload: bytes) -> bytes:
    """Return a payload in the compressed form."""
    compressor = zlib.compressobj(wbits=-WINDOW_BITS, memLevel=_MEMORY_LEVEL)
    compressed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return compressed[: -len(_TAIL)]


def inflate(compressed: bytes | bytearray, max_bytes: int) -> bytes:
    """Return the payload of a compressed message.

    Args:
        compressed: The compressed form.
        max_bytes: Maximum size of the payload. Of a larger one, only ``max_bytes + 1`` bytes are
            decompressed and returned.

    Raises:
        zlib.error: The compressed form is invalid or incomplete.
    """
    if not compressed:
        # The compressed form of an empty message is one null byte, but some clients send nothing.
        return b""
    # The largest window, because clients choose theirs.
    decompressor = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    payload = decompressor.decompress(b"".join((compressed, _TAIL, _FINAL_BLOCK)), max_bytes + 1)
    if len(payload) <= max_bytes:
        if not decompressor.eof:
            raise zlib.error("the last block is incomplete")
        if decompressor.unused_data not in _AFTER_FINAL_BLOCK:
            raise zlib.error("there is data behind the final block")
    return payload
