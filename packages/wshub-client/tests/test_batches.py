"""Several messages in one WebSocket message, and parts that are no message."""

import asyncio
import json
from typing import Any

import pytest
from client_servers import Log, answer_pings, event, refuse_secrets, run, websocket_server
from support import eventually
from websockets.asyncio.server import ServerConnection

from wshub_client import DroppedError, ReconnectingClient
from wshub_core import Message

GO_MESSAGES = 257
GO_BYTES = 65_536


def go_batch(count: int, size: int) -> str:
    """Return messages of a size, joined as go-ws joins what waits for a connection."""
    empty = len(event([0, ""]))
    return "\n".join(
        event([number, "x" * (size - empty - len(str(number)) + 1)]) for number in range(count)
    )


def fragments(text: str) -> list[str]:
    """Return what go-ws makes of a message: fragments of 1,024 bytes."""
    return [text[start : start + 1_024] for start in range(0, len(text), 1_024)]


async def test_messages_of_a_go_ws_hub_are_understood() -> None:
    async def go(socket: ServerConnection) -> None:
        zero = '{"type":"event","data":1,"timestamp":"0001-01-01T00:00:00Z"}'
        nine = '{"type":"event","data":2,"timestamp":"2026-11-23T04:14:16.618311291+01:00"}'
        await socket.send([zero[:5], zero[5:] + "\n" + nine + "\n", "\nnot a message\n\n{}\n"])
        await socket.send((event(3) + "\n").encode())
        await answer_pings(socket)

    async with websocket_server(go) as url, ReconnectingClient(url) as client:
        messages = [await client.receive() for _ in range(3)]
    assert [message.data for message in messages] == [1, 2, 3]
    assert messages[0].timestamp is None
    assert messages[1].timestamp is not None
    assert messages[1].timestamp.isoformat() == "2026-11-23T04:14:16.618311+01:00"


@pytest.mark.parametrize(("count", "size"), [(60, 60_000), (GO_MESSAGES, GO_BYTES)])
@pytest.mark.parametrize("is_fragmented", [True, False])
@pytest.mark.parametrize("is_early", [True, False])
async def test_the_largest_batch_of_go_arrives_and_holds_nothing_up(
    count: int, size: int, is_fragmented: bool, is_early: bool
) -> None:
    batch = go_batch(count, size)
    assert len(batch) <= GO_MESSAGES * (GO_BYTES + 1)

    async def send_batch(socket: ServerConnection) -> None:
        frames = fragments(batch) if is_fragmented else batch
        if is_early:
            await socket.send(frames)
            await refuse_secrets(socket)
        else:
            await socket.recv()
            await socket.send('{"type":"pong"}')
            await socket.send(frames)
        await refuse_secrets(socket)

    log = Log()
    async with (
        websocket_server(send_batch) as url,
        ReconnectingClient(url, on_error=log.note_error) as client,
        asyncio.timeout(40),
    ):
        numbers = [(await client.receive()).data[0] for _ in range(count)]
    assert numbers == list(range(count))
    assert log.errors == []


async def test_a_message_of_many_parts_lets_the_loop_run() -> None:
    parts = "\n" * 200_000 + "junk\n" * 50_000 + f"{event(1)}\n" * 50_000

    async def send_parts(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"pong"}')
        await socket.send(parts)
        await refuse_secrets(socket)

    seen = set()

    async def watch() -> None:
        while True:
            seen.add(client.unreadable_messages)
            await asyncio.sleep(0)

    async with (
        websocket_server(send_parts) as url,
        ReconnectingClient(url, inbox_size=60_000) as client,
        asyncio.timeout(40),
    ):
        watching = asyncio.create_task(watch())
        for _ in range(50_000):
            await client.receive()
        watching.cancel()
        assert client.unreadable_messages == 50_000
    # Others have run while it was read.
    assert len(seen) > 5


JUNK: list[Any] = [
    "junk",
    "[]",
    "null",
    "7",
    '"text"',
    "{}",
    '{"type":5}',
    '{"type":"event","channel":["no name"]}',
    '{"type":"event","timestamp":"yesterday"}',
    "[" * 60_000,
    b"\xff\xfe",
]


async def test_unreadable_messages_are_counted_and_logged_within_a_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def send_junk(socket: ServerConnection) -> None:
        for junk in JUNK:
            await socket.send(junk)
        await socket.send("\n \n" + event("fine"))
        await refuse_secrets(socket)

    async with websocket_server(send_junk) as url, ReconnectingClient(url) as client:
        assert (await client.receive()).data == "fine"
        assert client.unreadable_messages == len(JUNK)
        assert client.dropped_messages == 0
    assert client.unreadable_messages == len(JUNK)  # also after the connection
    records = [each for each in caplog.records if each.levelname == "WARNING"]
    assert 0 < len([each for each in records if each.name == "wshub.client"]) <= 5


async def test_messages_of_a_failed_dial_are_counted_and_reported() -> None:
    async def send_and_leave(socket: ServerConnection) -> None:
        await socket.recv()
        for number in range(3):
            await socket.send(event(number))
        await socket.close(1013)

    log = Log()
    async with websocket_server(send_and_leave) as url:
        client = ReconnectingClient(url, max_attempts=0, on_error=log.note_error)
        await run(client)
    assert client.dropped_messages == 3
    dropped = [each.count for each in log.errors if isinstance(each, DroppedError)]
    assert dropped == [3]


async def test_a_message_beyond_the_size_limit_ends_the_connection_with_a_reason() -> None:
    async def send_much(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"pong"}')
        await socket.send(fragments(json.dumps({"type": "event", "data": "x" * 5_000})))
        await refuse_secrets(socket)

    log = Log()
    async with (
        websocket_server(send_much) as url,
        ReconnectingClient(url, max_message_bytes=4_096, on_error=log.note_error),
    ):
        await eventually(lambda: log.entries[:1] == ["LostError"])
    assert "4096" in str(log.errors[0])


async def test_endless_empty_fragments_need_no_memory() -> None:
    async def send_empty(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"pong"}')
        await socket.send(["", *[""] * 20_000, event("fine")])
        await refuse_secrets(socket)

    async with websocket_server(send_empty) as url, ReconnectingClient(url) as client:
        await client.send(Message(type="go"))
        assert (await client.receive()).data == "fine"
