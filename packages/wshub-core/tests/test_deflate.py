"""The payloads of permessage-deflate, against raw zlib and the extension of `websockets`."""

import tracemalloc
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from wshub_core.protocol.deflate import WINDOW_BITS, deflate, inflate
from wshub_core.protocol.prepared import KeptMessage, PreparedMessage, PreparedPage

LIMIT = 65_536

PAYLOADS = st.binary(max_size=2_000) | st.builds(
    lambda part, count: part * count, st.binary(max_size=50), st.integers(0, 1_000)
)
"""Payloads that cannot be compressed, and payloads that become much smaller."""


def compress(payload: bytes, *, bits: int = 15, level: int = 6, memory: int = 8) -> bytes:
    """Compress a message as a client does."""
    compressor = zlib.compressobj(level=level, wbits=-bits, memLevel=memory)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def decompress_in_window(compressed: bytes, bits: int) -> bytes:
    """Decompress with a window of a size.

    zlib looks back into its window only if the data is not in the same output. The output is
    therefore fetched in small parts.
    """
    decompressor = zlib.decompressobj(wbits=-bits)
    payload, rest = b"", compressed + b"\0\0\xff\xff"
    while part := decompressor.decompress(rest, 100):
        payload += part
        rest = decompressor.unconsumed_tail
    return payload


@given(payload=PAYLOADS)
def test_clients_decompress_every_payload(payload: bytes) -> None:
    extension = PerMessageDeflate(True, True, WINDOW_BITS, WINDOW_BITS)
    frame = Frame(Opcode.TEXT, deflate(payload), rsv1=True)
    assert bytes(extension.decode(frame, max_size=len(payload)).data) == payload
    assert decompress_in_window(deflate(payload), WINDOW_BITS) == payload


@pytest.mark.parametrize("distance", [4_000, 4_096, 4_200, 30_000])
def test_a_client_needs_only_the_negotiated_window(distance: int) -> None:
    payload = Random(distance).randbytes(distance) * 2
    assert decompress_in_window(deflate(payload), bits=12) == payload


@given(
    payload=PAYLOADS,
    bits=st.integers(9, 15),
    level=st.integers(0, 9),
    memory=st.integers(1, 9),
)
def test_payloads_of_any_window_and_level_are_decompressed(
    payload: bytes, bits: int, level: int, memory: int
) -> None:
    compressed = compress(payload, bits=bits, level=level, memory=memory)
    assert inflate(compressed, len(payload)) == payload
    if payload:
        part = inflate(compressed, len(payload) - 1)
        assert part == payload


@given(parts=st.lists(st.binary(max_size=500), min_size=1, max_size=10))
def test_the_fragments_of_websockets_are_decompressed(parts: list[bytes]) -> None:
    extension = PerMessageDeflate(True, True, 15, 15)
    compressed = b""
    for index, part in enumerate(parts):
        opcode = Opcode.CONT if index else Opcode.BINARY
        compressed += extension.encode(Frame(opcode, part, fin=index == len(parts) - 1)).data
    assert inflate(compressed, LIMIT) == b"".join(parts)


@given(data=st.binary(max_size=300))
def test_junk_raises_one_error_or_stays_within_the_limit(data: bytes) -> None:
    try:
        payload = inflate(data, 100)
    except zlib.error:
        return
    assert len(payload) <= 101


@pytest.mark.parametrize(
    ("compressed", "payload"),
    [
        ("f2 48 cd c9 c9 07 00", b"Hello"),
        ("00 05 00 fa ff 48 65 6c 6c 6f 00", b"Hello"),
        ("f3 48 cd c9 c9 07 00 00", b"Hello"),
        ("f3 48 cd c9 c9 07 00", b"Hello"),
        ("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", b"Hello"),
        ("00", b""),
        ("", b""),
    ],
    ids=[
        "one block (7.2.3.1)",
        "a block without compression (7.2.3.3)",
        "a final block (7.2.3.4)",
        "a final block and nothing behind it",
        "two blocks (7.2.3.5)",
        "an empty block (7.2.3.6)",
        "nothing",
    ],
)
def test_the_examples_of_the_rfc_are_decompressed(compressed: str, payload: bytes) -> None:
    assert inflate(bytes.fromhex(compressed), len(payload)) == payload


@pytest.mark.parametrize(
    "compressed",
    [
        b"\x06",
        b"\xff" * 20,
        b"Hello",
        compress(b"Hello") + b"\0\0\xff\xff",
        compress(b"Hello" * 100)[:-1],
        compress(b"Hello" * 100)[:-3],
        compress(b"Hello")[:1],
        zlib.compress(b"Hello"),
        bytes.fromhex("f3 48 cd c9 c9 07 00") + compress(b"Hello"),
    ],
    ids=[
        "block of an unknown type",
        "ones",
        "plain text",
        "the tail that must be removed",
        "without the last byte",
        "without three bytes",
        "one byte",
        "zlib header",
        "a block behind the final block",
    ],
)
def test_invalid_payloads_raise_one_error(compressed: bytes) -> None:
    with pytest.raises(zlib.error):
        inflate(compressed, LIMIT)


@pytest.mark.parametrize("layers", [1, 1_000])
def test_a_bomb_takes_no_more_memory_than_the_limit(layers: int) -> None:
    # A thousand concatenated messages are one message of a thousand blocks.
    bomb = (compress(bytes(16_777_216 // layers)) + b"\0\0\xff\xff") * layers
    tracemalloc.start()
    try:
        payload = inflate(bomb[:-4], LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(payload) == LIMIT + 1
    # The compressed bytes once more, the payload twice, and the state of zlib.
    assert peak < len(bomb) + 3 * LIMIT + 65_536


def test_a_prepared_message_is_compressed_once() -> None:
    message = PreparedMessage(b'{"data":"%s"}' % (b"abc" * 100))
    frame = message.compressed_frame(1)
    assert frame[0] == 0xC1
    assert inflate(frame[2:], 1_000) == message.payload
    assert message.compressed_frame(1) is frame
    assert message.size == len(message.frame)


@pytest.mark.parametrize("size", [125, 126, 1_000, 65_535, 65_536, 200_000])
def test_the_header_announces_the_compressed_size(size: int) -> None:
    # Random text of 64 characters becomes a quarter smaller.
    payload = bytes(Random(size).choices(range(64), k=size))
    frame = PreparedMessage(payload).compressed_frame(1)
    start = {126: 4, 127: 10}.get(frame[1], 2)
    announced = int.from_bytes(frame[2:start]) if start > 2 else frame[1]
    assert frame[0] == 0xC1
    assert announced == len(frame) - start
    assert inflate(frame[start:], size) == payload


def test_small_messages_are_not_compressed() -> None:
    assert PreparedMessage(b"a" * 99).compressed_frame(100) == b"\x81\x63" + b"a" * 99
    assert len(PreparedMessage(b"a" * 100).compressed_frame(100)) < 20


def test_messages_that_do_not_become_smaller_are_not_compressed() -> None:
    message = PreparedMessage(Random(1).randbytes(1_000))
    assert message.compressed_frame(1) is message.frame
    assert message.compressed_frame(1) is message.frame


def test_pages_are_not_compressed() -> None:
    messages = [KeptMessage(b"a" * 1_000) for _ in range(3)]
    page = PreparedPage([each.frame for each in messages])
    assert page.compressed_frame(1) == b"".join(each.frame for each in messages)
