"""The subscribers of `bench:peers`: what they read, count and answer."""

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from frames import PING, PONG, TEXT, FrameReader, client_frame
from hypothesis import given
from hypothesis import strategies as st
from programs import Program, ProgramError
from session import SUBSCRIBERS
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from wshub_core import Connection, Hub, HubConfig, Message

OPCODES = st.sampled_from([(Opcode.TEXT, TEXT), (Opcode.PING, PING), (Opcode.PONG, PONG)])


def feed_in_pieces(reader: FrameReader, stream: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    found = []
    for start, end in itertools.pairwise(edges):
        found += list(reader.feed(stream[start:end]))
    return found


@given(
    st.lists(st.tuples(OPCODES, st.integers(0, 300) | st.sampled_from([65_535, 65_536, 70_000]))),
    st.lists(st.integers(0, 1 << 20), max_size=8),
)
def test_messages_are_complete_wherever_the_stream_is_cut(
    kinds: list[tuple[tuple[Opcode, int], int]], cuts: list[int]
) -> None:
    stream, expected = b"", []
    for number, ((opcode, kind), size) in enumerate(kinds):
        payload = bytes([number % 256]) * (size if opcode is Opcode.TEXT else size % 126)
        stream += Frame(opcode, payload).serialize(mask=False)
        expected.append((kind, payload))
    assert feed_in_pieces(FrameReader(), stream, cuts) == expected


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_compressed_messages_are_inflated_with_and_without_context(
    payloads: list[bytes], context_takeover: bool
) -> None:
    deflate = PerMessageDeflate(False, not context_takeover, 15, 15)
    reader = FrameReader()
    reader.inflate_messages(context_takeover)
    for payload in payloads * 2:
        frame = Frame(Opcode.TEXT, payload).serialize(mask=False, extensions=[deflate])
        assert list(reader.feed(frame)) == [(TEXT, payload)]


def test_a_message_in_fragments_is_joined_around_a_ping() -> None:
    deflate = [PerMessageDeflate(False, False, 15, 15)]
    frames = [
        Frame(Opcode.TEXT, b"a long ", fin=False).serialize(mask=False, extensions=deflate),
        Frame(Opcode.PING, b"there?").serialize(mask=False),
        Frame(Opcode.CONT, b"message").serialize(mask=False, extensions=deflate),
    ]
    reader = FrameReader()
    reader.inflate_messages(context_takeover=True)
    assert list(reader.feed(b"".join(frames))) == [(PING, b"there?"), (TEXT, b"a long message")]


@pytest.mark.parametrize(
    ("opcode", "size"), [(TEXT, 0), (TEXT, 125), (TEXT, 126), (TEXT, 65_535), (PONG, 125)]
)
def test_websockets_reads_the_frames_of_a_subscriber(opcode: int, size: int) -> None:
    stream = StreamReader()
    stream.feed_data(client_frame(b"x" * size, opcode))
    with pytest.raises(StopIteration) as end:
        next(Frame.parse(stream.read_exact, mask=True))
    frame = end.value.value
    assert (frame.opcode, len(frame.data)) == (opcode, size)
    assert set(frame.data) <= {ord("x")}


class Process:
    """A process of subscribers, whose answers the event loop can wait for."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, str(SUBSCRIBERS), str(port), "json"]
        self._program = Program(command, os.sched_getaffinity(0))
        self.end = self._program.end

    async def ask(self, *command: object) -> Any:
        return await asyncio.to_thread(self._program.ask, json.dumps(command))


@asynccontextmanager
async def subscribers(hub: Hub) -> AsyncIterator[Process]:
    async with hub, hub.serve("127.0.0.1", 0) as server:
        process = Process(server.port)
        try:
            yield process
        finally:
            process.end()


async def test_the_subscribers_name_missing_messages_and_measure_the_delay_of_others() -> None:
    hub = Hub()
    async with subscribers(hub) as process:
        assert await process.ask("open", 2, 2) == 2
        await process.ask("subscribe", ["news", "other"])
        while hub.stats().subscribers < 2:
            await process.ask("count")
        await process.ask("begin", True)
        began = time.time_ns()
        for _ in range(2):
            hub.publish("news", Message(type="event", data=f"${began}xx"))
        while await process.ask("count") < 2:
            pass
        assert await process.ask("lost", 2) == [2, 1]  # messages, subscribers
        delays = await process.ask("delays")
        assert len(delays) == 2
        assert 0 <= min(delays) <= max(delays) <= (time.time_ns() - began) // 1000


async def test_the_messages_of_a_closed_connection_are_missing() -> None:
    hub = Hub()
    async with subscribers(hub) as process:
        await process.ask("open", 2, 1)
        await process.ask("subscribe", ["news", "news"])
        while hub.stats().subscribers < 2:
            await process.ask("count")
        await hub.connections[0].close()
        hub.publish("news", Message(type="event", data="$"))
        while await process.ask("count") < 1:
            pass
        assert await process.ask("lost", 1) == [1, 1]


async def test_a_subscriber_takes_turns_with_the_server() -> None:
    seen = []

    def publish_again(_: Connection, message: Message) -> None:
        seen.append(message.channel)
        hub.publish("news", Message(type="event", data=message.data))

    hub = Hub(HubConfig(on_message=publish_again))
    async with subscribers(hub) as process:
        await process.ask("open", 1, 1)
        await process.ask("subscribe", ["news"])
        assert await process.ask("take_turns", 3, "xx") == 3
        assert await process.ask("count") == 3
        assert seen == ["news"] * 3


async def test_a_server_that_refuses_the_handshake_ends_the_subscribers() -> None:
    async with subscribers(Hub(HubConfig(max_connections=1))) as process:
        with pytest.raises(ProgramError, match=r"HTTP/1\.1 503"):
            await process.ask("open", 2, 1)
