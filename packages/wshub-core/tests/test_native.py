"""The native transport on raw sockets, with frames that correct clients never send."""

import asyncio
import contextlib
from typing import Any, cast

import pytest
from raw_client import PING, SUBSCRIBE, continuation, raw, reset, text
from support import Serve, Served, eventually, present, read_to_end
from websockets.frames import Close, Frame, Opcode

from wshub_core import (
    AuthResult,
    Connection,
    Disconnect,
    DisconnectCause,
    Message,
)


async def test_fragments_are_joined_across_control_frames(served: Served) -> None:
    async with raw(served) as client:
        await client.open()
        client.writer.write(text('{"type":', fin=False))
        client.writer.write(Frame(Opcode.PING, b"?").serialize(mask=True))
        client.writer.write(continuation(b"", fin=False) * 1_000)
        client.writer.write(continuation(b'"ping"}', fin=True))
        assert await client.read_frame() == (Opcode.PONG, b"?")
        await client.expect_pong()


async def test_a_message_may_have_exactly_max_message_bytes(served: Served) -> None:
    padding = 65_536 - len('{"type":"ping","data":""}')
    async with raw(served) as client:
        await client.open()
        client.writer.write(text('{"type":"ping","data":"%s"}' % ("x" * padding)))
        await client.expect_pong()
        client.writer.write(text('{"type":"ping","data":"%s"}' % ("x" * (padding + 1))))
        assert (await client.read_close()).code == 1009


async def test_the_limit_applies_to_the_sum_of_the_fragments(served: Served) -> None:
    async with raw(served) as client:
        await client.open()
        client.writer.write(text(b"x" * 40_000, fin=False))
        client.writer.write(continuation(b"x" * 40_000, fin=False))
        assert (await client.read_close()).code == 1009


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (Frame(Opcode.TEXT, b"{}").serialize(mask=False), 1002),
        (continuation(b"x", fin=True), 1002),
        (text("{}", fin=False) + text("{}"), 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (b"\x09\x80\0\0\0\0", 1002),
        (text(b'{"type":"ping\xff"}'), 1007),
        (text(b"\xc3", fin=False) + continuation(b"\x28", fin=True), 1007),
        (Frame(Opcode.CLOSE, b"\x03\xed").serialize(mask=True), 1002),
    ],
    ids=[
        "unmasked",
        "stray continuation",
        "message within a message",
        "unknown opcode",
        "reserved bits",
        "fragmented ping",
        "text that is not UTF-8",
        "fragments that are not UTF-8",
        "close code that must not be sent",
    ],
)
async def test_a_protocol_violation_ends_only_its_connection(
    served: Served, data: bytes, code: int
) -> None:
    other = await served.connect()
    async with raw(served) as client:
        await client.open()
        client.writer.write(SUBSCRIBE + data + SUBSCRIBE)
        assert (await client.read_close()).code == code
        await eventually(lambda: present(served.hub) == (1, 0, 0))
    await other.sync()


async def test_a_character_may_be_split_between_fragments(served: Served) -> None:
    async with raw(served) as client:
        await client.open()
        client.writer.write(text(b'{"type":"ping","data":"\xc3', fin=False))
        client.writer.write(continuation(b'\xbc"}', fin=True))
        await client.expect_pong()


async def test_a_close_is_echoed(served: Served) -> None:
    async with raw(served) as client:
        await client.open()
        client.writer.write(
            Frame(Opcode.CLOSE, Close(4000, "bye").serialize()).serialize(mask=True)
        )
        assert await client.read_close() == Close(4000, "bye")


async def test_a_close_without_a_code_is_echoed_without_a_code(served: Served) -> None:
    async with raw(served) as client:
        await client.open()
        client.writer.write(Frame(Opcode.CLOSE, b"").serialize(mask=True))
        assert await client.read_frame() == (Opcode.CLOSE, b"")


async def test_a_client_that_sent_eof_receives_no_more_messages(served: Served) -> None:
    async with raw(served) as client:
        await client.open()
        client.writer.write_eof()
        await eventually(lambda: served.hub.stats().clients == 0)
        served.hub.broadcast(Message(type="event"))
        assert await read_to_end(client.reader) == b""


async def test_reading_stops_for_a_client_that_sends_without_reading(
    serve: Serve,
) -> None:
    served = await serve(close_timeout=0.05)
    async with raw(served) as client:
        await client.open()
        cast(asyncio.Transport, client.writer.transport).pause_reading()
        # Many more answers than fit into the kernel and the outbox, so the hub must stop reading.
        (transport,) = served.sockets
        # Either reading stops, or the answers to a single read already overflow the outbox.
        async with asyncio.timeout(30):
            while transport.is_reading and served.hub.stats().evictions == 0:
                client.writer.write(PING * 100)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.writer.drain()
        other = await served.connect()
        await other.sync()
        client.writer.transport.abort()


async def test_a_half_closed_client_that_does_not_read_does_not_delay_the_close(
    serve: Serve,
) -> None:
    served = await serve(close_timeout=0.05, max_outbox_bytes=20_000_000)
    async with raw(served) as client:
        await client.open()
        cast(asyncio.Transport, client.writer.transport).pause_reading()
        (transport,) = served.sockets
        while transport.unsent_bytes() == 0:
            served.hub.broadcast(Message(type="event", data="x" * 60_000))
            await asyncio.sleep(0)
        client.writer.write_eof()
        async with asyncio.timeout(5):
            await served.server.close()
        client.writer.transport.abort()


async def test_a_client_that_takes_no_bytes_is_aborted(serve: Serve) -> None:
    ends: list[Disconnect] = []
    served = await serve(
        write_timeout=0.05,
        max_outbox_bytes=20_000_000,
        on_disconnect=lambda _, end: ends.append(end),
    )
    async with raw(served) as client:
        await client.open()
        cast(asyncio.Transport, client.writer.transport).pause_reading()
        (transport,) = served.sockets
        while transport.unsent_bytes() == 0:
            served.hub.broadcast(Message(type="event", data="x" * 20_000))
            await asyncio.sleep(0)
        await eventually(lambda: bool(ends))
        assert ends[0].cause is DisconnectCause.WRITE_TIMEOUT
        assert served.hub.stats().evictions == 1


@pytest.mark.parametrize("authenticator", [None, lambda _: AuthResult(True, "alice")])
async def test_frames_wait_for_a_callback_and_too_many_pause_reading(
    serve: Serve, authenticator: Any
) -> None:
    gate = asyncio.Event()
    received: list[Any] = []

    async def wait(connection: Connection) -> None:
        await gate.wait()

    served = await serve(
        authenticator=authenticator,
        on_connect=wait,
        on_message=lambda _, message: received.append(message.data),
    )
    async with raw(served) as client:
        await client.open()
        (transport,) = served.sockets
        assert transport.is_reading
        sent = 0
        while transport.is_reading:
            client.writer.write(text(f'{{"type":"x","data":{sent}}}'))
            await client.writer.drain()
            await asyncio.sleep(0)
            sent += 1
            assert sent < 5_000, "the frames that wait for a callback are bounded"
        assert received == []
        gate.set()
        client.writer.write(PING)
        await client.expect_pong()
        assert received == list(range(sent))
        assert transport.is_reading


async def test_writing_after_a_reset_is_not_logged(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw(served) as client:
        await client.open()
        client.writer.write(SUBSCRIBE + PING)
        await client.expect_pong()
        # The hub notices the reset between many pings, and each ping causes a pong.
        client.writer.write(Frame(Opcode.PING, b"").serialize(mask=True) * 20_000)
        reset(client)
        for number in range(200):
            served.hub.publish_event("a", number)
            await asyncio.sleep(0)
        await eventually(lambda: served.hub.stats().clients == 0)
    assert "socket.send() raised" not in caplog.text
    assert len(caplog.records) < 5
