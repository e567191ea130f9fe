"""Compressed messages between the hub's server and its clients."""

import asyncio
import json
import logging
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from history_support import ask, publish, receive_data
from raw_client import PING, RawClient, continuation, raw, text
from support import Serve, Served, WireClient, eventually
from test_deflate import compress
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close, Frame, Opcode

from wshub_core import Compression, Connection, HistoryLimits, Message
from wshub_core.protocol import deflate
from wshub_core.protocol.deflate import inflate

OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
LIMIT = 65_536

LONG = {"items": [{"id": n, "state": "open"} for n in range(100)]}
"""Data of a message above the default threshold."""


@pytest.fixture
async def compressing(serve: Serve) -> Served:
    """A hub that compresses every message."""
    return await serve(compression=Compression(min_bytes=1))


@asynccontextmanager
async def opened(served: Served) -> AsyncIterator[RawClient]:
    """A raw client that has negotiated the extension."""
    async with raw(served) as client:
        assert b"permessage-deflate" in await client.open(OFFER)
        yield client


def compressed(payload: str | bytes, **settings: Any) -> bytes:
    """Return a compressed text message, as a client sends it."""
    return packed(compress(payload.encode() if isinstance(payload, str) else payload, **settings))


def packed(payload: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    """Return a frame with the bit RSV1 around a payload that is compressed already."""
    frame = bytearray(Frame(opcode, payload, fin).serialize(mask=True))
    frame[0] |= 0x40
    return bytes(frame)


async def connect(served: Served, **options: Any) -> WireClient:
    """Connect with the client of `websockets` and its default offer."""
    client = await served.connect(**{"compression": "deflate", **options})
    assert client.socket.protocol.extensions
    return client


# To the clients.


async def test_clients_with_and_without_compression_get_the_same_message(serve: Serve) -> None:
    served = await serve(compression=Compression())
    clients = [await connect(served), await served.connect(), await connect(served)]
    for client in clients:
        await client.subscribe("a")
    served.hub.publish_event("a", LONG)
    for client in clients:
        assert (await client.receive())["data"] == LONG


async def test_all_clients_get_the_same_compressed_bytes(compressing: Served) -> None:
    async with opened(compressing) as one, opened(compressing) as other, raw(compressing) as plain:
        await plain.open()
        before = compressing.hub.stats().delivered_bytes
        compressing.hub.broadcast(Message(type="event", data=LONG))
        head, payload = await one.read_any_frame()
        assert head == 0xC1
        assert await other.read_any_frame() == (head, payload)
        head, uncompressed = await plain.read_any_frame()
        assert head == 0x81
        assert inflate(payload, LIMIT) == uncompressed
        # The headers of all these frames have 4 bytes.
        delivered = compressing.hub.stats().delivered_bytes - before
        assert delivered == 2 * (4 + len(payload)) + 4 + len(uncompressed)


async def test_messages_of_one_write_are_compressed_one_by_one(compressing: Served) -> None:
    async with opened(compressing) as client:
        for n in range(50):
            compressing.hub.broadcast(Message(type="event", data=f"{n} {n} {n} {n} {n}"))
        for n in range(50):
            head, payload = await client.read_any_frame()
            assert head == 0xC1
            assert json.loads(inflate(payload, LIMIT))["data"] == f"{n} {n} {n} {n} {n}"


async def test_small_and_incompressible_messages_are_not_compressed(serve: Serve) -> None:
    served = await serve(compression=Compression(min_bytes=200))
    async with opened(served) as client:
        served.hub.broadcast(Message(type="event", data="a" * 50))
        assert (await client.read_any_frame())[0] == 0x81
        served.hub.broadcast(Message(type="event", data="a" * 200))
        assert (await client.read_any_frame())[0] == 0xC1


async def test_the_answers_to_one_client_are_compressed_too(compressing: Served) -> None:
    async with opened(compressing) as client:
        client.writer.write(text(json.dumps({"type": "ping", "id": "a" * 100})))
        head, payload = await client.read_any_frame()
        assert head == 0xC1
        assert json.loads(inflate(payload, LIMIT))["id"] == "a" * 100


async def test_pings_and_close_frames_are_not_compressed(compressing: Served) -> None:
    async with opened(compressing) as client:
        client.writer.write(Frame(Opcode.PING, b"a" * 100).serialize(mask=True))
        assert await client.read_any_frame() == (0x8A, b"a" * 100)
        (connection,) = compressing.hub.connections
        closing = asyncio.create_task(connection.close(4000, "a" * 100))
        assert (await client.read_any_frame())[0] == 0x88
    await closing


async def test_a_history_and_live_messages_arrive_in_order(serve: Serve) -> None:
    served = await serve(compression=Compression(min_bytes=1), history={"a": HistoryLimits()})
    publish(served.hub, "a", *range(200))
    client = await connect(served)
    await ask(client, "a", {"since": 0})
    publish(served.hub, "a", *range(200, 300))
    assert await receive_data(client, 300) == [*range(300)]


async def test_a_refused_client_gets_its_close_code(serve: Serve) -> None:
    served = await serve(compression=Compression(min_bytes=1), allowed_origins=[])
    async with raw(served) as client:
        head = await client.open(
            OFFER, b"Origin: https://other.example", b"Sec-WebSocket-Protocol: wshub.v1"
        )
        assert b"permessage-deflate" in head
        client.writer.write(compressed("{}"))
        opcode, payload = await client.read_frame()
        assert (opcode, Close.parse(payload).code) == (Opcode.CLOSE, 3003)


async def test_a_slow_client_misses_whole_messages_only(serve: Serve) -> None:
    served = await serve(
        compression=Compression(),
        overflow="drop_newest",
        max_outbox_bytes=100_000,
        heartbeat_interval=3_600.0,
    )
    random = Random(1)
    async with opened(served) as client:
        published = received = 0
        while not served.hub.stats().dropped_messages:
            # Random digits: half of the size is left, so the buffers of the sockets fill up.
            digits = "".join(random.choices("0123456789", k=20_000))
            served.hub.broadcast(Message(type="event", data=digits))
            published += 1
            await asyncio.sleep(0)
        # Messages that wait for their fan-out may still be dropped.
        while received < published - served.hub.stats().dropped_messages:
            head, payload = await client.read_any_frame()
            assert head == 0xC1
            assert len(json.loads(inflate(payload, LIMIT))["data"]) == 20_000
            received += 1


# From the clients.


async def test_a_compressed_message_is_served(compressing: Served) -> None:
    async with opened(compressing) as client:
        for memory in range(1, 10):
            client.writer.write(compressed('{"type":"subscribe","channel":"a"}', memory=memory))
        await eventually(lambda: compressing.hub.channels == ("a",))


async def test_pings_may_stand_between_the_fragments(compressing: Served) -> None:
    message = compress(b'{"type":"subscribe","channel":"a"}')
    ping = Frame(Opcode.PING, b"?").serialize(mask=True)
    async with opened(compressing) as client:
        # A pong first: it must not count as the first frame of a message.
        client.writer.write(Frame(Opcode.PONG, b"").serialize(mask=True))
        client.writer.write(packed(message[:1], fin=False) + ping)
        for byte in message[1:]:
            client.writer.write(continuation(bytes([byte]), fin=False) + ping)
        client.writer.write(continuation(b"", fin=True))
        for _ in message:
            assert await client.read_any_frame() == (0x8A, b"?")
        await eventually(lambda: compressing.hub.channels == ("a",))


async def test_uncompressed_messages_may_stand_between_compressed_ones(
    compressing: Served,
) -> None:
    async with opened(compressing) as client:
        for _ in range(2):
            client.writer.write(compressed('{"type":"ping","id":"1"}'))
            client.writer.write(text('{"type":"ping",', fin=False))
            client.writer.write(continuation(b'"id":"2"}', fin=True))
            client.writer.write(PING)
        ids = [
            json.loads(inflate(payload, LIMIT) if head == 0xC1 else payload).get("id")
            for head, payload in [await client.read_any_frame() for _ in range(6)]
        ]
        assert ids == ["1", "2", None] * 2


@pytest.mark.parametrize("payload", [b"", b"\0"], ids=["no byte", "an empty block"])
async def test_an_empty_message_is_an_ignored_frame(compressing: Served, payload: bytes) -> None:
    async with opened(compressing) as client:
        client.writer.write(packed(payload) + packed(b"", fin=False))
        client.writer.write(continuation(payload, fin=True) + PING)
        await client.read_any_frame()
        assert compressing.hub.stats().ignored_frames == 2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (packed(b"", Opcode.PING), 1002),
        (packed(b"", Opcode.PONG), 1002),
        (packed(b"\x03\xe8", Opcode.CLOSE), 1002),
        (packed(b"\0", fin=False) + packed(b"\0", Opcode.CONT), 1002),
        (text("{}", fin=False) + packed(b"\0", Opcode.CONT), 1002),
        (packed(b"\0", Opcode.CONT), 1002),
        (packed(b"\0", fin=False) + packed(b"\0"), 1002),
        (bytes([0xE1]) + packed(b"\0")[1:], 1002),
        (bytes([0xD1]) + packed(b"\0")[1:], 1002),
        (packed(b"\xff" * 20), 1007),
        (packed(b"\xff" * 20, Opcode.BINARY), 1007),
        (packed(compress(b"{}" * 100)[:-3]), 1007),
        (packed(b"\xff", fin=False) + continuation(b"\xff", fin=True), 1007),
        (compressed(b'{"type":"ping\xff"}'), 1007),
    ],
    ids=[
        "compressed ping",
        "compressed pong",
        "compressed close",
        "compressed continuation",
        "compressed continuation of an uncompressed message",
        "stray compressed continuation",
        "message within a message",
        "second reserved bit",
        "third reserved bit",
        "invalid text",
        "invalid binary message",
        "incomplete message",
        "invalid fragments",
        "text that is not UTF-8",
    ],
)
async def test_a_violation_ends_only_its_connection(
    compressing: Served, data: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    other = await connect(compressing)
    with caplog.at_level(logging.WARNING):
        async with opened(compressing) as client:
            client.writer.write(data + compressed('{"type":"subscribe","channel":"a"}'))
            assert (await client.read_close()).code == code
        await eventually(lambda: compressing.hub.stats().clients == 1)
    assert caplog.records == []
    assert compressing.hub.channels == ()
    await other.sync()


async def test_compressed_messages_are_refused_without_the_extension(compressing: Served) -> None:
    async with raw(compressing) as client:
        await client.open()
        client.writer.write(compressed("{}"))
        assert (await client.read_close()).code == 1002


# Sizes.


def ping_of(size: int, character: str = "x") -> str:
    """Return a ping frame of a size."""
    frame = '{"type":"ping","data":"%s"}'
    return frame % (character * (size + 2 - len(frame)))


@pytest.mark.parametrize("memory", [1, 8])
@pytest.mark.parametrize("level", [0, 9])
async def test_a_message_may_have_max_message_bytes(
    compressing: Served, level: int, memory: int
) -> None:
    async with opened(compressing) as client:
        client.writer.write(compressed(ping_of(LIMIT), level=level, memory=memory))
        await client.read_any_frame()
        client.writer.write(compressed(ping_of(LIMIT + 1), level=level, memory=memory))
        assert (await client.read_close()).code == 1009


async def test_fragments_of_incompressible_data_may_have_max_message_bytes(
    compressing: Served,
) -> None:
    compressor = zlib.compressobj(wbits=-9, memLevel=1)
    data = Random(1).randbytes(LIMIT)
    async with opened(compressing) as client:
        for start in range(0, LIMIT, 4_096):
            part = compressor.compress(data[start : start + 4_096])
            part += compressor.flush(zlib.Z_SYNC_FLUSH)
            if start == 0:
                client.writer.write(packed(part, Opcode.BINARY, fin=False))
            else:
                client.writer.write(continuation(part, fin=False))
        client.writer.write(continuation(b"\0", fin=True) + PING)
        await client.read_any_frame()
        assert compressing.hub.stats().ignored_frames == 1


async def test_the_limit_of_uncompressed_messages_stays(compressing: Served) -> None:
    async with opened(compressing) as client:
        client.writer.write(text(ping_of(LIMIT)))
        await client.read_any_frame()
        client.writer.write(text(ping_of(LIMIT + 1)[:40_000], fin=False))
        client.writer.write(continuation(ping_of(LIMIT + 1)[40_000:].encode(), fin=True))
        assert (await client.read_close()).code == 1009


@pytest.mark.parametrize("count", [1, 2, 1_000])
async def test_a_bomb_is_refused_in_little_memory(compressing: Served, count: int) -> None:
    bomb = compress(bytes(67_108_864))
    size = len(bomb) // count + 1
    parts = [bomb[start : start + size] for start in range(0, len(bomb), size)]
    async with opened(compressing) as client:
        tracemalloc.start()
        try:
            client.writer.write(packed(parts[0], fin=len(parts) == 1))
            for part in parts[1:-1]:
                client.writer.write(continuation(part, fin=False))
            if len(parts) > 1:
                client.writer.write(continuation(parts[-1], fin=True))
            assert (await client.read_close()).code == 1009
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2_000_000


async def test_many_small_bombs_wait_in_little_memory(serve: Serve) -> None:
    release = asyncio.Event()

    async def wait(connection: Connection, message: Message) -> None:
        await release.wait()

    served = await serve(compression=Compression(), on_message=wait)
    message = compressed('{"type":"x","data":"%s"}' % ("x" * 65_000))
    assert len(message) < 150
    async with opened(served) as client:
        tracemalloc.start()
        try:
            client.writer.write(message * 400)
            (socket,) = served.sockets
            await eventually(lambda: not socket.is_reading)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        release.set()
        client.writer.write(PING)
        await client.expect_pong()
    assert peak < 1_000_000  # of 26 MB


async def test_no_state_of_zlib_stays_between_messages(compressing: Served) -> None:
    tracemalloc.start()
    try:
        clients = [await connect(compressing) for _ in range(20)]
        for client in clients:
            await client.subscribe("a")
        message = compress(b'{"type":"ping"}')
        compressing.hub.publish_event("a", LONG)
        async with opened(compressing) as unfinished:
            unfinished.writer.write(packed(message, fin=False))
            unfinished.writer.write(Frame(Opcode.PING, b"").serialize(mask=True))
            await unfinished.read_any_frame()
            for client in clients:
                await client.receive()
            held = tracemalloc.take_snapshot().filter_traces(
                [tracemalloc.Filter(True, deflate.__file__)]
            )
    finally:
        tracemalloc.stop()
    # The last compressed message is kept. One compressor would take more than 20,000 bytes.
    assert sum(each.size for each in held.statistics("filename")) < 4_000


# With the client of `websockets`, and the offers and sizes of the Autobahn test suite.

OFFERS: dict[str, dict[str, Any]] = {
    "13.1": {},
    "13.2": {"server_no_context_takeover": True, "client_no_context_takeover": True},
    "13.3": {"server_max_window_bits": 12, "client_max_window_bits": 9},
    "13.4": {"server_max_window_bits": 15, "client_max_window_bits": 15},
    "13.5": {
        "server_no_context_takeover": True,
        "server_max_window_bits": 12,
        "client_max_window_bits": 9,
    },
    "13.6": {"client_max_window_bits": True, "client_no_context_takeover": True},
}

SIZES = [0, 16, 64, 256, 1_024, 4_096, 8_192, 16_384, 32_768, 65_000]


@pytest.mark.parametrize("fragment", [None, 256, 32_768], ids=str)
@pytest.mark.parametrize("offer", OFFERS)
async def test_messages_are_echoed(serve: Serve, offer: str, fragment: int | None) -> None:
    async def echo(connection: Connection, message: Message) -> None:
        connection.send(Message(type="event", data=message.data))

    served = await serve(compression=Compression(), on_message=echo, max_message_bytes=131_072)
    factory = ClientPerMessageDeflateFactory(**OFFERS[offer])
    client = await connect(served, compression=None, extensions=[factory])
    random = Random(offer)
    for size in SIZES:
        repetitive = ("Lorem ipsum dolor sit amet " * (size // 20 + 1))[:size]
        for data in (repetitive, "".join(random.choices('aé€😀\n"{', k=size // 2))):
            frame = json.dumps({"type": "echo", "data": data}, ensure_ascii=False)
            if fragment is None:
                await client.socket.send(frame)
            else:
                starts = range(0, len(frame), fragment)
                await client.socket.send([frame[each : each + fragment] for each in starts])
            assert (await client.receive())["data"] == data
