"""The JavaScript client recovers from the history of a real hub, however connections end."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from client_contract.interface import QUICK
from client_contract.observing import (
    eventually,
    messages_of,
    named,
    names,
    wait_event,
    wait_until,
)
from client_contract.recovery import message, wait_position, without_connections
from client_contract.servers import run_hub
from js_clients import JSClient
from js_fixtures import client as client
from js_fixtures import running_client as running_client

from wshub_core import HistoryLimits, Hub, Message

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE = HistoryLimits(bytes=67_108_864)


def publish(hub: Hub, channel: str, data: object) -> None:
    hub.publish(channel, Message(type="event", data=data))


@asynccontextmanager
async def run_cutting_proxy(port: int, random: random.Random) -> AsyncIterator[int]:
    """Forward connections to a port; cut each after some bytes, also in the middle of a frame."""

    async def forward(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: float
    ) -> None:
        while most > 0 and (data := await reader.read(65_536)):
            writer.write(data[: int(min(most, len(data)))])
            await writer.drain()
            most -= len(data)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", port)
        both = [
            asyncio.create_task(forward(reader, hub_writer, float("inf"))),
            asyncio.create_task(forward(hub_reader, writer, random.randint(300, 20_000))),
        ]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for each in both:
            each.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        for end in (writer, hub_writer):
            end.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_connections_that_are_cut_anywhere_lose_and_double_nothing(
    client: JSClient,
) -> None:
    count = 400
    async with run_hub(history={"a": HistoryLimits()}) as running:
        port = int(running.url.split(":")[2].removesuffix("/ws"))
        async with run_cutting_proxy(port, random.Random(7)) as proxy:
            await client.start(f"ws://127.0.0.1:{proxy}/ws", **QUICK)
            await client.subscribe("a", since=0)
            for number in range(1, count + 1):
                publish(running.hub, "a", number)
                await asyncio.sleep(0.002)
            await eventually(lambda: client.count("message"), lambda now: now >= count)
            await client.close()
        events = await client.events()
        assert [each["data"] for each in named(events, "message")] == list(range(1, count + 1))
        assert named(events, "gap") == []
        assert len(running.connections) > 2


async def test_every_restart_of_the_hub_is_one_gap(client: JSClient) -> None:
    port = 0
    published: list[object] = []
    for life in range(3):
        async with run_hub(port, history={"*": HistoryLimits()}) as running:
            port = int(running.url.split(":")[2].removesuffix("/ws"))
            if not published:
                await client.start(running.url, **QUICK)
                await wait_event(client, "connect")
                await client.subscribe("a")
                await client.subscribe("quiet")
            await wait_until(lambda: len(running.connections) == 1)
            for number in range(5):
                publish(running.hub, "a", f"{life}.{number}")
                published.append(f"{life}.{number}")
            await messages_of(client, len(published))
            await running.drop()
            for number in range(5, 10):
                publish(running.hub, "a", f"{life}.{number}")
                published.append(f"{life}.{number}")
            await messages_of(client, len(published))
    events = await client.events()
    assert [each["data"] for each in named(events, "message")] == published
    gaps = [(each["channel"], each["reason"]) for each in named(events, "gap")]
    assert sorted(gaps) == [("a", "foreign_epoch")] * 2 + [("quiet", "foreign_epoch")] * 2
    first = names(events).index("gap")
    assert len(named(events[:first], "message")) == 10


async def test_a_slow_client_gets_the_messages_that_its_outbox_dropped(client: JSClient) -> None:
    count = 240
    async with run_hub(history={"a": LARGE}, overflow="drop_oldest") as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("a")
        blocked = asyncio.create_task(client.block(2))
        await asyncio.sleep(0.2)
        for number in range(1, count + 1):
            publish(running.hub, "a", [number, "x" * 60_000])
            await asyncio.sleep(0)
        await blocked
        publish(running.hub, "a", [count + 1])
        await eventually(lambda: client.count("message"), lambda now: now >= count + 1)
        assert running.hub.stats().dropped_messages > 0
        messages = named(await client.events(), "message")
        assert [each["data"][0] for each in messages] == list(range(1, count + 2))
        assert await client.count("gap") == await client.count("disconnect") == 0


async def test_a_reconnect_takes_more_history_than_may_come_before_the_first_pong(
    client: JSClient,
) -> None:
    channels = [f"c{number}" for number in range(24)]
    async with run_hub(history={"*": HistoryLimits()}) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        for channel in channels:
            await client.subscribe_confirmed(channel)
        await running.drop()
        for channel in channels:
            for _ in range(16):
                publish(running.hub, channel, "x" * 60_000)
        await wait_event(client, "reconnect")
        total = 16 * len(channels)
        await eventually(lambda: client.count("message"), lambda now: now >= total)
        assert await client.count("message") == total
        assert await client.count("gap") == 0
        assert await client.count("reconnect") == 1


async def test_a_cleared_history_begins_anew_without_a_gap(client: JSClient) -> None:
    async with run_hub(history={"a": HistoryLimits()}) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        publish(running.hub, "a", 1)
        await client.subscribe_confirmed("a", since=0)
        await messages_of(client, 1)
        before = await client.position("a")
        assert before is not None
        await running.hub.clear_history("a")
        publish(running.hub, "a", 2)
        await messages_of(client, 3)
        await running.drop()
        publish(running.hub, "a", 3)
        await messages_of(client, 4)
        events = without_connections(await client.events())
        assert [each["type"] for each in events] == ["event", "history_cleared", "event", "event"]
        assert events[2:] == [message(2), message(3)]
        epoch = (await running.hub.history("a")).epoch
        assert epoch != before[0]
        await wait_position(client, (epoch, 2))
