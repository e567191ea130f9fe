"""The cost of the paths that every message takes, as a number of calls.

Numbers of calls do not depend on the machine, unlike times. A test that fails here shows that a
path has become longer. If that is necessary, measure what it costs with ``bench:cost``, and raise
the bound.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from raw_client import text
from support import Serve, Served

from wshub_core import Connection, Hub, Message
from wshub_core.transports.handshake import read_handshake
from wshub_core.transports.native import NativeTransport

EVENT = Message(type="event", data="x" * 128)


def count_calls(work: Callable[[], object]) -> int:
    """Return the number of calls of wshub's own functions."""
    calls = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        if event == "call" and "wshub_core" in frame.f_code.co_filename:
            calls += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


async def fan_out(served: Served, messages: int) -> int:
    """Publish messages to the channel "a", and count the calls until all are delivered."""
    delivery = served.hub._get_running().lifecycle.delivery

    def publish_and_deliver() -> None:
        delivery.hold()
        for _ in range(messages):
            served.hub.publish("a", EVENT)
        # All at once, not in slices whose number depends on the time.
        delivery._run(float("inf"))
        delivery.release()

    return count_calls(publish_and_deliver)


def transport_of(served: Served) -> NativeTransport:
    (transport,) = served.sockets
    return transport


async def test_publishing_without_subscribers(serve: Serve) -> None:
    hub = (await serve()).hub
    hub.publish("a", EVENT)
    assert count_calls(lambda: hub.publish("a", EVENT)) <= 20


async def test_a_message_to_many_subscribers(serve: Serve) -> None:
    served = await serve()
    for _ in range(60):
        await (await served.connect()).subscribe("a")
    await fan_out(served, 1)
    few, many = [await fan_out(served, 1) for _ in range(3)], [await fan_out(served, 10)]
    # Each delivery: the room in the outbox, the counters, and the socket.
    assert min(few) / 60 <= 3.9
    # Messages in quick succession share a delivery. Nearly half of the calls publish them.
    assert min(many) / 600 <= 0.83


async def test_a_frame_that_is_published_to_its_sender(serve: Serve) -> None:
    hubs: list[Hub] = []

    def on_message(connection: Connection, message: Message) -> None:
        hubs[0].publish("a", EVENT)

    served = await serve(on_message=on_message)
    hubs.append(served.hub)
    client = await served.connect()
    await client.subscribe("a")
    transport = transport_of(served)
    frame = text('{"type":"hello","data":"' + "x" * 100 + '"}')
    calls = [count_calls(lambda: transport.data_received(frame)) for _ in range(5)]
    assert min(calls) <= 41
    for _ in range(5):
        assert (await client.receive())["data"] == "x" * 128


async def test_a_pong(serve: Serve) -> None:
    served = await serve()
    client = await served.connect()
    await client.sync()
    transport = transport_of(served)
    assert count_calls(lambda: transport.data_received(b"\x8a\x80abcd")) <= 12


def test_a_handshake() -> None:
    request = (
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    def shake_hands() -> None:
        handshake = read_handshake(request)
        assert handshake is not None
        handshake.accept(None)

    shake_hands()
    assert count_calls(shake_hands) <= 7
