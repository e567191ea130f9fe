"""The way of the application's messages to the hub."""

import asyncio
from typing import Any

import pytest
from client_servers import QUICK, Log, hang_up, run, tcp_server
from support import eventually

from wshub_client import DroppedError, QueueLimits, ReconnectingClient
from wshub_core import (
    Hub,
    HubConfig,
    InvalidChannelError,
    Message,
    MessageEncodeError,
    MessageTooLargeError,
)
from wshub_core.testing import ManualClock

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


async def test_a_message_that_cannot_be_sent_raises_and_keeps_the_connection(url: str) -> None:
    async with ReconnectingClient(url) as client:
        with pytest.raises(MessageEncodeError, match="failed to marshal message"):
            await client.send(Message(type="event", data=float("nan")))
        with pytest.raises(MessageTooLargeError):
            await client.send(Message(type="event", data="x" * 65_536))
        with pytest.raises(MessageEncodeError):
            await client.publish("chat", print)
        with pytest.raises(InvalidChannelError):
            await client.publish("a b")
        with pytest.raises(InvalidChannelError):
            await client.subscribe("")
        assert client.channels == ()
        await client.unsubscribe("never wanted")
        await client.send(Message(type="ping"))
        assert (await client.receive()).type == "pong"


async def test_many_tasks_send_at_once(url: str) -> None:
    async with ReconnectingClient(url) as client:
        await asyncio.gather(*(client.send(Message(type="ping")) for _ in range(32)))
        assert [(await client.receive()).type for _ in range(32)] == ["pong"] * 32


async def test_queued_messages_are_sent_before_closing_or_counted() -> None:
    heard: list[Any] = []
    config = HubConfig(on_message=lambda _, message: heard.append(message.data))
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        client = ReconnectingClient(url, queue=QueueLimits())
        for number in range(500):
            await client.send(Message(type="note", data=number))
        async with client:
            pass
        await eventually(lambda: heard == list(range(500)))
    log = Log()
    client = ReconnectingClient(
        url, queue=QueueLimits(), max_attempts=0, on_error=log.note_error, **QUICK
    )
    for number in range(5):
        await client.send(Message(type="note", data=number))
    await run(client)
    dropped = [error for error in log.errors if isinstance(error, DroppedError)]
    assert [error.count for error in dropped] == [5]


async def test_many_drops_in_a_row_are_one_report() -> None:
    log = Log()
    async with tcp_server(hang_up) as url:
        client = ReconnectingClient(
            url, queue=QueueLimits(messages=1), clock=ManualClock(), on_error=log.note_error
        )
        running = asyncio.create_task(run(client))
        for number in range(5_000):
            await client.send(Message(type="note", data=number))
        await client.close()
        await running
    dropped = [error.count for error in log.errors if isinstance(error, DroppedError)]
    assert sum(dropped) == 5_000
    assert len(dropped) <= 3


@pytest.mark.parametrize("size", range(65_380, 65_480, 4))
async def test_a_message_at_the_size_limit_is_published_or_raises_here(size: int) -> None:
    config = HubConfig(publish_authorizer=lambda *_: True)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url) as client:
            try:
                await client.publish("chat", "x" * size)
            except MessageTooLargeError:
                assert size > 65_400
            assert hub.stats().connections == 1
            await client.publish("chat", "still here")
