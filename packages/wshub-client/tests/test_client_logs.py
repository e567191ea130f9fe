"""The log of a client when the same errors repeat."""

import asyncio
from typing import Any

import pytest
from client_servers import Log, run, tcp_server
from support import eventually

from wshub_client import QueueLimits, ReconnectingClient
from wshub_core import Hub, Message

QUICK: dict[str, Any] = {"initial_backoff": 0.0001, "max_backoff": 0.0002, "open_timeout": 2.0}


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n")


async def test_a_server_that_refuses_does_not_fill_the_log_nor_hide_other_errors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    log = Log()
    async with tcp_server(refuse) as url:
        client = ReconnectingClient(
            url, on_error=log.note_error, queue=QueueLimits(messages=1), **QUICK
        )
        running = asyncio.create_task(run(client))
        await eventually(lambda: len(log.errors) >= 50)
        for number in range(3):
            await client.send(Message(type="note", data=number))
        await eventually(lambda: "DroppedError" in log.entries)
        await client.close()
        await running
    records = [each.getMessage() for each in caplog.records if each.name == "wshub.client"]
    assert 0 < len([each for each in records if "answered 503" in each]) <= 5
    assert any("messages dropped" in each for each in records)


async def test_a_callback_that_always_fails_does_not_fill_the_log_nor_hide_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: object) -> None:
        raise LookupError

    async with Hub() as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        client = ReconnectingClient(url, on_message=fail, on_reconnect=fail, **QUICK)
        async with client:
            for _ in range(100):
                hub.broadcast(Message(type="event"))
            await eventually(lambda: client.callback_errors == 100)
            await hub.connections[0].close(4000)
            await eventually(lambda: client.callback_errors == 101)
    assert 0 < caplog.text.count("on_message failed") <= 5
    assert caplog.text.count("on_reconnect failed") == 1
