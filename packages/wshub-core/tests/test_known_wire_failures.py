"""Failures of other WebSocket servers, from their public bug reports, with the right behavior."""

import asyncio
import json

import pytest
from raw_client import raw, text
from support import Serve, eventually
from test_handshake_parsing import KEY, LIBRARY, compare, request
from websockets.frames import CloseCode, Opcode

from wshub_core import Connection, Message


@pytest.mark.parametrize(
    ("header", "value"),
    [
        # picows 115
        ("Upgrade", "WebSocket"),
        # tyrus 399, websocket-php 39, websocket.zig 4
        ("Connection", "keep-alive, Upgrade"),
        # nodejs-websocket 46
        ("Connection", "Upgrade,Keep-Alive"),
        # soketto 32
        ("Connection", "upgrade"),
        # A key whose last bits are not zero has 16 bytes, too.
        ("Sec-WebSocket-Key", KEY[:21] + "R=="),
    ],
)
async def test_forms_of_a_valid_handshake(serve: Serve, header: str, value: str) -> None:
    lines = [f"{header}: {value}" if line.startswith(header) else line for line in LIBRARY]
    data = request(lines, "GET /ws HTTP/1.1")
    assert compare(data) is not None
    async with raw(await serve()) as client:
        client.writer.write(data)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("size", [5, 200, 70_000])
async def test_a_frame_may_arrive_byte_by_byte(serve: Serve, size: int) -> None:
    """Mosquitto 3721, corefx 30375, uWebSockets 1407: headers and masks that are split."""
    async with raw(await serve(max_message_bytes=100_000)) as client:
        await client.open()
        frame = text(json.dumps({"type": "ping", "data": "x" * size}))
        cut = min(len(frame), 20)
        for index in range(cut):
            client.writer.write(frame[index : index + 1])
            for _ in range(3):
                await asyncio.sleep(0)
        client.writer.write(frame[cut:])
        await client.expect_pong()


@pytest.mark.parametrize("frame", [b"\x81\x00", b"\x89\x00", b"\x8a\x00", b"\x88\x00"])
async def test_an_unmasked_empty_frame_fails_at_once(serve: Serve, frame: bytes) -> None:
    """XX-Net 14169, netxms 3579, dotnet 125782: nothing stands where a mask would be."""
    async with raw(await serve()) as client:
        await client.open()
        client.writer.write(frame)
        assert (await client.read_close()).code == CloseCode.PROTOCOL_ERROR


async def test_a_client_can_come_during_a_flood(serve: Serve) -> None:
    """ws-rs 65: the frames of one client kept others from connecting."""
    served_frames = 0

    def on_message(connection: Connection, message: Message) -> None:
        nonlocal served_frames
        served_frames += 1

    served = await serve(on_message=on_message)
    async with raw(served) as flood, raw(served) as other:
        await flood.open()
        flood.writer.write(text('{"type":"x"}') * 40_000)
        await eventually(lambda: served_frames > 0)
        await other.open()
        assert served_frames < 40_000
        await eventually(lambda: served_frames == 40_000)


async def test_messages_that_the_kernel_takes_in_parts_stay_whole(serve: Serve) -> None:
    """uWebSockets.js 1249, aiohttp 1367: bytes were lost or piled up when the peer read slowly."""
    served = await serve(max_message_bytes=1_000_000, max_outbox_bytes=64_000_000)
    async with raw(served) as client:
        await client.open()
        client.writer.write(text('{"type":"subscribe","channel":"a","id":1}'))
        await client.read_frame()
        count = 40
        for number in range(count):
            # Larger than the buffers of the kernel, so that each write ends in the middle.
            data = f"{number}:" + "x" * 400_000
            served.hub.publish("a", Message(type="event", data=data))
            await asyncio.sleep(0)
        reader = client.reader
        for number in range(count):
            head = await asyncio.wait_for(reader.readexactly(10), 30)
            payload = await reader.readexactly(int.from_bytes(head[2:]))
            assert json.loads(payload)["data"].startswith(f"{number}:")
            assert head[0] == 0x80 | Opcode.TEXT
            await asyncio.sleep(0.001)
        assert served.hub.stats().deliveries == count + 1
