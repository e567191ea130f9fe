"""The fast path for frames against `websockets`: the same messages, answers and errors."""

import asyncio
import json
import struct
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from raw_client import HANDSHAKE
from support import PATIENCE_SECONDS, read_to_end
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from wshub_core import Connection, Hub, HubConfig, Message
from wshub_core.protocol.client_frames import Other, read_client_frame
from wshub_core.transports.frames import frame_end, pong_end, read_text

MAX_BYTES = 1_000

masks = st.binary(min_size=4, max_size=4)


def encode(number: int, size: int = 0) -> bytes:
    return json.dumps({"type": "x", "data": number, "more": "y" * size}).encode()


def mask(payload: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def header(first: int, length: int, *, form: int = 0, masked: bool = True) -> bytes:
    """Return a header whose length has the shortest form, or one of 2 or 8 bytes."""
    bit = 0x80 if masked else 0
    form = form or (0 if length < 126 else 2 if length < 65_536 else 8)
    if form == 0:
        return bytes((first, bit | length))
    if form == 2:
        return struct.pack("!BBH", first, bit | 126, length)
    return struct.pack("!BBQ", first, bit | 127, length)


def frame(payload: bytes, first: int = 0x81, key: bytes = b"abcd", form: int = 0) -> bytes:
    return header(first, len(payload), form=form) + key + mask(payload, key)


payloads = st.builds(encode, st.integers(0, 99), st.sampled_from([0, 60, 90, 91, 95, 300, 940]))
whole_texts = st.builds(frame, payloads, key=masks, form=st.sampled_from([0, 0, 0, 2, 8])).filter(
    lambda each: len(each) > 8
)
fragmented_texts = st.builds(
    lambda payload, cut, between: frame(payload[:cut], 0x01) + between + frame(payload[cut:], 0x80),
    payloads,
    st.integers(0, 20),
    st.sampled_from([b"", frame(b"hello", 0x89), frame(b"", 0x8A), frame(encode(7))]),
)
others = st.sampled_from(
    [
        frame(b""),
        frame(b"", 0x89),
        frame(b"ping", 0x89),
        frame(b"", 0x8A),
        frame(b"pong", 0x8A),
        frame(b"", 0x8A, form=2),
        frame(encode(1), 0x82),
        frame(encode(2), 0xC1),
        frame(encode(3), 0x83),
        frame(encode(4), 0x80),
        frame(b"{\xff}"),
        frame(b"x" * (MAX_BYTES + 1)),
        frame(b"\x03\xe8bye", 0x88),
        frame(b"", 0x88),
        header(0x81, 20, masked=False) + b"x" * 20,
        header(0x8A, 0, masked=False),
        header(0x81, 2**63, form=8) + b"abcd",
    ]
)
streams = st.lists(whole_texts | whole_texts | fragmented_texts | others, min_size=1, max_size=8)


class Reference:
    """What `websockets` makes of a client's bytes: the messages and the answer."""

    def __init__(self, data: bytes) -> None:
        self.messages: list[Message] = []
        self._protocol = ServerProtocol(state=OPEN, max_size=MAX_BYTES)
        self._fragments: list[bytes] = []
        # Byte by byte: the protocol answers pings at once, also behind an invalid message.
        for index in range(len(data)):
            self._protocol.receive_data(data[index : index + 1])
            for event in self._protocol.events_received():
                assert isinstance(event, Frame)
                self._receive(event)
        if self._protocol.state is OPEN:
            self._protocol.receive_eof()
        self.answer = b"".join(self._protocol.data_to_send())

    def _receive(self, event: Frame) -> None:
        if event.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text = event.opcode is Opcode.TEXT
            self._fragments = []
        elif event.opcode is not Opcode.CONT:
            return
        self._fragments.append(bytes(event.data))
        if not event.fin:
            return
        payload = b"".join(self._fragments)
        try:
            payload.decode()
        except UnicodeDecodeError:
            if self._is_text:
                if self._protocol.state is OPEN:
                    reason = "invalid UTF-8 in a text message"
                    self._protocol.fail(CloseCode.INVALID_DATA, reason)
                return
        request = read_client_frame(payload)
        if isinstance(request, Other):
            self.messages.append(request.message)


def check(
    exchange: Callable[[list[bytes]], tuple[list[Message], bytes]], parts: list[bytes]
) -> None:
    messages, answer = exchange(parts)
    reference = Reference(b"".join(parts))
    assert messages == reference.messages
    assert answer == reference.answer


@pytest.fixture
def exchange() -> Any:
    """A function that sends parts to a hub; it returns the received messages and the answer."""
    received: list[Message] = []

    def on_message(connection: Connection, message: Message) -> None:
        received.append(message)

    async def run(port: int, parts: list[bytes]) -> bytes:
        received.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(HANDSHAKE)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                for _ in range(3):
                    await asyncio.sleep(0)
            if not writer.transport.is_closing():
                writer.write_eof()
            return await read_to_end(reader)
        finally:
            writer.close()

    with asyncio.Runner() as runner:
        config = HubConfig(
            on_message=on_message,
            max_message_bytes=MAX_BYTES,
            # `websockets` sends no pings here, so the hub must not either.
            heartbeat_interval=3_600.0,
            pong_timeout=7_200.0,
        )
        hub = Hub(config)
        runner.run(hub.__aenter__())
        server = hub.serve("127.0.0.1", 0)
        runner.run(server.__aenter__())

        def call(work: Coroutine[Any, Any, bytes]) -> tuple[list[Message], bytes]:
            return received, runner.run(work)

        yield lambda parts: call(run(server.port, parts))
        runner.run(server.close())
        runner.run(hub.close())


def split(stream: list[bytes], cuts: list[int]) -> list[bytes]:
    data = b"".join(stream)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(places)]


def test_frames_have_the_same_effect_as_in_websockets(exchange: Any) -> None:
    @settings(max_examples=150, deadline=None)
    @given(stream=streams, cuts=st.lists(st.integers(0, 5_000), max_size=5))
    @example(stream=[frame(encode(1, 95))], cuts=[1, 2, 3, 4, 7, 8])
    @example(stream=[frame(b"hello", 0x89), frame(encode(1))], cuts=[])
    @example(stream=[frame(encode(1)[:9], 0x01), frame(encode(2))], cuts=[])
    def compare(stream: list[bytes], cuts: list[int]) -> None:
        check(exchange, split(stream, cuts))

    compare()


def test_damaged_frames_have_the_same_effect_as_in_websockets(exchange: Any) -> None:
    @settings(max_examples=150, deadline=None)
    @given(
        stream=streams,
        changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2),
        end=st.integers(0, 3_000),
        cuts=st.lists(st.integers(0, 5_000), max_size=2),
    )
    def compare(
        stream: list[bytes], changes: list[tuple[int, int]], end: int, cuts: list[int]
    ) -> None:
        data = bytearray(b"".join(stream))
        for place, byte in changes:
            data[place % len(data)] = byte
        check(exchange, split([bytes(data[: max(1, end)])], cuts))

    compare()


def test_usual_frames_take_the_fast_path() -> None:
    for size in (2, 126, 127, 128, 900):
        payload = b"x" * size
        data = b"before" + frame(payload) + b"behind"
        assert read_text(data, 6, MAX_BYTES) == (payload, len(data) - 6)
    assert pong_end(frame(b"", 0x8A), 0) == 6


@pytest.mark.parametrize("missing", range(1, 12))
def test_an_incomplete_frame_waits(missing: int) -> None:
    assert read_text(frame(b"123456")[:-missing], 0, MAX_BYTES) is None


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 2**63])
@pytest.mark.parametrize("form", [2, 8])
def test_the_end_of_a_frame_is_known_from_its_header(length: int, form: int) -> None:
    if form == 2 and length > 65_535:
        return
    start = header(0x82, length, form=form)
    assert frame_end(start, 0) == len(start) + 4 + length
    for missing in range(1, len(start)):
        assert frame_end(start[:-missing], 0) is None
