"""Turns for parsing: a flood holds neither the event loop nor other clients."""

import asyncio
from collections import deque
from collections.abc import Callable

import pytest
from support import Serve, Served, eventually, wshub

from wshub_core.transports.reading import TURN_SECONDS, ReadingTurns


class ManualLoop:
    def __init__(self) -> None:
        self.now = 100.0
        self.calls: deque[Callable[[], object]] = deque()

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], object], /) -> object:
        self.calls.append(callback)
        return None

    def run_once(self) -> None:
        for _ in range(len(self.calls)):
            self.calls.popleft()()


class Peer:
    """A connection with a number of chunks, each of which takes some time."""

    def __init__(self, loop: ManualLoop, chunks: int, seconds: float = 0.0005) -> None:
        self.loop = loop
        self.chunks = chunks
        self.seconds = seconds
        self.done = 0

    def process_chunk(self) -> bool:
        self.loop.now += self.seconds
        self.done += 1
        return self.done < self.chunks


def test_a_small_frame_is_processed_at_once() -> None:
    loop = ManualLoop()
    peer = Peer(loop, 1)
    ReadingTurns(loop).process(peer)
    assert (peer.done, len(loop.calls)) == (1, 0)


def test_a_turn_exceeds_its_time_by_one_chunk_at_most() -> None:
    loop = ManualLoop()
    turns = ReadingTurns(loop)
    flood = Peer(loop, 1_000)
    turns.process(flood)
    rounds = 0
    while flood.done < flood.chunks:
        before = loop.now
        loop.run_once()
        assert loop.now - before <= TURN_SECONDS + flood.seconds
        rounds += 1
    assert rounds > 200


def test_many_connections_share_one_turn_per_round() -> None:
    loop = ManualLoop()
    turns = ReadingTurns(loop)
    peers = [Peer(loop, 1) for _ in range(100)]
    before = loop.now
    for peer in peers:
        turns.process(peer)
    assert loop.now - before <= TURN_SECONDS + 0.0005
    while loop.calls:
        before = loop.now
        loop.run_once()
        assert loop.now - before <= TURN_SECONDS + 0.0005
    assert all(peer.done == 1 for peer in peers)


def test_every_connection_gets_the_same_share() -> None:
    loop = ManualLoop()
    turns = ReadingTurns(loop)
    floods = [Peer(loop, 10_000) for _ in range(4)]
    for flood in floods:
        turns.process(flood)
    healthy = Peer(loop, 1)
    turns.process(healthy)
    loop.run_once()
    loop.run_once()
    assert healthy.done == 1
    for _ in range(100):
        loop.run_once()
    assert max(each.done for each in floods) - min(each.done for each in floods) <= 5


def test_an_exception_of_one_connection_harms_no_other() -> None:
    class Broken(Peer):
        def process_chunk(self) -> bool:
            raise ValueError("mistake")

    loop = ManualLoop()
    turns = ReadingTurns(loop)
    peer = Peer(loop, 3)
    turns.add(Broken(loop, 1))
    turns.add(peer)
    with pytest.raises(ValueError, match="mistake"):
        loop.run_once()
    while loop.calls:
        loop.run_once()
    assert peer.done == 3


FLOOD = """
import socket, sys, threading
HANDSHAKE = (b"GET /ws HTTP/1.1\\r\\nHost: x\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n"
             b"Sec-WebSocket-Version: 13\\r\\n\\r\\n")
frames = bytes.fromhex(sys.argv[2])
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as flooding:
    flooding.sendall(HANDSHAKE)
    flooding.recv(4096)
    print("open", flush=True)
    read_all = lambda: [None for _ in iter(lambda: flooding.recv(1 << 18), b"")]
    threading.Thread(target=read_all, daemon=True).start()
    try:
        for _ in range(1_000):
            flooding.sendall(frames * 2_000)
    except OSError:
        pass
"""

EMPTY_PING = b"\x89\x80\0\0\0\0"
EMPTY_CONTINUATION = b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 50
JSON_PING = b"\x81\x8f\0\0\0\0" + b'{"type":"ping"}'
UNKNOWN = b"\x81\x82\0\0\0\0{}"


@pytest.mark.parametrize("frames", [EMPTY_PING, EMPTY_CONTINUATION, JSON_PING, UNKNOWN])
async def test_a_client_beside_floods_receives_every_message(served: Served, frames: bytes) -> None:
    client = await served.connect()
    await client.subscribe("a")
    async with (
        wshub(str(served.server.port), frames.hex(), code=FLOOD) as first,
        wshub(str(served.server.port), frames.hex(), code=FLOOD) as second,
    ):
        for flood in (first, second):
            assert flood.stdout is not None
            assert await flood.stdout.readline() == b"open\n"
        for number in range(50):
            served.hub.publish_event("a", number)
            # Messages arrive and commands are served while the floods go on.
            assert (await client.receive())["data"] == number
            await client.sync()


async def test_frames_that_wait_for_a_turn_are_served_after_the_client_has_left(
    serve: Serve,
) -> None:
    received: list[object] = []
    served = await serve(on_message=lambda _, message: received.append(message.data))
    client = await served.connect()
    async with asyncio.timeout(10):
        for number in range(2_000):
            await client.send(type="x", data=number)
        await client.socket.close()
        await eventually(lambda: served.hub.stats().clients == 0)
    assert received == list(range(2_000))
