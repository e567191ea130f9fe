"""Recovery from the history of a hub: cut connections, restarts, slow programs, and positions."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from client_servers import (
    QUICK,
    Log,
    answer_pings,
    has_accepted,
    refuse_secrets,
    run,
    websocket_server,
)
from cutting_proxy import cutting_proxy
from support import eventually
from threaded_hubs import Served
from websockets.asyncio.server import ServerConnection

from wshub_client import BlockingClient, Gap, ReconnectingClient
from wshub_client import opening as opening_module
from wshub_core import Connection, HistoryLimits, Hub, HubConfig, Message

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")

HISTORY = {"a": HistoryLimits(), "b": HistoryLimits(), "many*": HistoryLimits()}


@asynccontextmanager
async def serving(port: int = 0, **settings: Any) -> AsyncIterator[tuple[Hub, str]]:
    config = HubConfig(**{"history": HISTORY, "close_timeout": 2.0, **settings})
    async with Hub(config) as hub, hub.serve("127.0.0.1", port) as server:
        yield hub, f"ws://127.0.0.1:{server.port}/ws"


def publish(hub: Hub, first: int, last: int, channel: str = "a") -> None:
    for number in range(first, last + 1):
        hub.publish(channel, Message(type="event", data=number))


def numbers(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


async def receive(client: ReconnectingClient, count: int) -> list[Any]:
    async with asyncio.timeout(30):
        return [(await client.receive()).data for _ in range(count)]


# Lost connections.


@pytest.mark.parametrize("start", [{}, {"since": 0}])
async def test_connections_that_are_cut_anywhere_lose_nothing(start: dict[str, Any]) -> None:
    # Some cuts hit the handshake, some the time before the first pong, some a page of the history.
    cuts = [*range(10, 900, 80), *range(1_000, 20_000, 3_100), *range(500, 1_500, 90)]
    log = Log()
    gaps: list[Gap] = []
    async with serving() as (hub, hub_url), cutting_proxy(hub_url, iter(cuts)) as (proxy, url):
        client = ReconnectingClient(
            url, on_gap=gaps.append, **{**QUICK, "open_timeout": 10.0}, **log.callbacks()
        )
        await client.subscribe("a", **start)
        running = asyncio.create_task(run(client))
        if not start:
            # The first position comes with the first connection.
            await eventually(lambda: client.position("a") is not None)
        published = 0
        while proxy.connections <= len(cuts):
            published += 1
            publish(hub, published, published)
            await asyncio.sleep(0 if published % 5 else 0.002)
        publish(hub, published + 1, published + 10)
        await eventually(lambda: published + 10 in log.entries)
        await client.close()
        await running
    assert [each for each in log.entries if isinstance(each, int)] == numbers(1, published + 10)
    assert gaps == []
    assert position_of(client) == published + 10
    assert client.dropped_messages == 0


async def test_a_restart_of_the_hub_is_a_gap_between_its_messages() -> None:
    entries: list[Any] = []
    async with serving() as (hub, url):
        client = ReconnectingClient(
            url, on_message=lambda each: entries.append(each.data), on_gap=entries.append, **QUICK
        )
        running = asyncio.create_task(run(client))
        await client.subscribe("a", confirm=True)
        publish(hub, 1, 3)
        await eventually(lambda: len(entries) == 3)
    async with serving(int(url.split(":")[2].split("/")[0])) as (hub, _):
        publish(hub, 4, 5)
        await eventually(lambda: 5 in entries)
        publish(hub, 6, 6)
        await eventually(lambda: 6 in entries)
        await client.close()
        await running
    assert entries == [1, 2, 3, Gap("a", "foreign_epoch"), 4, 5, 6]


async def test_messages_that_the_hub_has_removed_meanwhile_are_a_gap() -> None:
    entries: list[Any] = []
    async with serving(history={"a": HistoryLimits(messages=3)}) as (hub, url):
        client = ReconnectingClient(
            url,
            on_message=lambda each: entries.append(each.data),
            on_gap=entries.append,
            **{**QUICK, "initial_backoff": 0.2, "max_backoff": 0.2},
        )
        async with client:
            await client.subscribe("a", confirm=True)
            publish(hub, 1, 1)
            await eventually(lambda: entries == [1])
            await hub.connections[0].close(1012)
            publish(hub, 2, 9)
            await eventually(lambda: 9 in entries)
    assert entries == [1, Gap("a", "trimmed", 5), 7, 8, 9]


async def test_messages_on_a_failed_dial_come_again_and_are_not_dropped_ones() -> None:
    dials: list[Any] = []

    async def script(socket: ServerConnection) -> None:
        frames: list[Any] = []
        while not frames or frames[-1]["type"] != "ping":
            frames.append(json.loads(await socket.recv()))
        [request] = [each for each in frames if each["type"] == "subscribe"]
        dials.append(request["history"])
        data = {"epoch": "e1", "offset": 1, "first": 1, "after": 0, "recovered": True}
        answer = {"type": "subscribed", "channel": "a", "id": request["id"], "data": data}
        message = {"type": "event", "channel": "a", "data": 1, "epoch": "e1", "offset": 1}
        await socket.send(json.dumps(answer))
        await socket.send(json.dumps(message))
        if len(dials) == 1:
            await socket.close(1012)
        await socket.send(json.dumps({"type": "pong", "id": frames[-1]["id"]}))
        await answer_pings(socket)

    async with websocket_server(script) as url:
        client = ReconnectingClient(url, **QUICK)
        await client.subscribe("a", last=5)
        async with client:
            assert await receive(client, 1) == [1]
            assert client.position("a") == ("e1", 1)
            assert dials == [{"last": 5}, {"last": 5}]
            assert client.dropped_messages == client.duplicate_messages == 0


async def test_many_long_histories_do_not_come_before_the_first_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening_module, "_MAX_EARLY_BYTES", 500_000)
    text = "x" * 10_000
    async with serving() as (hub, url):
        for channel in range(20):
            for _ in range(30):
                hub.publish(f"many{channel}", Message(type="event", data=text))
        client = ReconnectingClient(url, max_attempts=1, max_message_bytes=100_000, **QUICK)
        for channel in range(20):
            await client.subscribe(f"many{channel}", since=0)
        async with client:
            assert await receive(client, 600) == [text] * 600
            await hub.connections[0].close(1012)
            await eventually(lambda: has_accepted(hub, 2))
            publish(hub, 1, 1, "many7")
            assert await receive(client, 1) == [1]


# Slow programs.


LARGE = {"a": HistoryLimits(bytes=100_000_000)}


async def publish_more_than_buffers_hold(hub: Hub) -> None:
    for number in numbers(1, 600):
        hub.publish("a", Message(type="event", data=[number, "x" * 40_000]))
        if number % 20 == 0:
            await asyncio.sleep(0)


async def test_a_slow_reader_loses_nothing_when_the_hub_gives_up() -> None:
    async with (
        serving(history=LARGE) as (hub, url),
        ReconnectingClient(url, inbox_size=10, **QUICK) as client,
    ):
        await client.subscribe("a", confirm=True)
        await publish_more_than_buffers_hold(hub)
        await eventually(lambda: hub.stats().evictions > 0)
        assert [each[0] for each in await receive(client, 600)] == numbers(1, 600)


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_messages_that_the_hub_has_dropped_are_requested_again(overflow: Any) -> None:
    gaps: list[Gap] = []
    async with (
        serving(overflow=overflow, history=LARGE) as (hub, url),
        ReconnectingClient(url, inbox_size=10, on_gap=gaps.append, **QUICK) as client,
    ):
        await client.subscribe("a", confirm=True)
        await publish_more_than_buffers_hold(hub)
        await eventually(lambda: hub.stats().dropped_messages > 0)
        dropped_before = hub.stats().dropped_messages
        reading = asyncio.create_task(receive(client, 601))
        # A message behind the dropped ones shows that they are missing. It may be dropped, too.
        published = 600
        while not reading.done():
            published += 1
            hub.publish("a", Message(type="event", data=[published, ""]))
            await asyncio.sleep(0.02)
        assert [each[0] for each in await reading] == numbers(1, 601)
        assert dropped_before > 0
        assert gaps == []


async def test_messages_that_the_client_has_dropped_are_behind_its_position() -> None:
    log = Log()
    async with serving() as (hub, url):
        client = ReconnectingClient(
            url, inbox_size=10, overflow="drop_oldest", on_error=log.note_error, **QUICK
        )
        async with client:
            await client.subscribe("a", confirm=True)
            publish(hub, 1, 100)
            await eventually(lambda: client.dropped_messages == 90)
            assert position_of(client) == 90
            await hub.connections[0].close(1012)
            await eventually(lambda: has_accepted(hub, 2))
            publish(hub, 101, 101)
            await eventually(lambda: client.dropped_messages == 91)
            assert await receive(client, 10) == numbers(92, 101)
            assert position_of(client) == 101


# Positions.


def position_of(client: ReconnectingClient | BlockingClient, channel: str = "a") -> int:
    position = client.position(channel)
    assert position is not None
    return position.offset


async def test_the_position_is_behind_the_messages_that_the_program_has_received() -> None:
    async with serving() as (hub, url), ReconnectingClient(url, **QUICK) as client:
        assert client.position("a") is None
        await client.subscribe("a", confirm=True)
        await client.subscribe("b", confirm=True)
        assert (position_of(client, "a"), position_of(client, "b")) == (0, 0)
        publish(hub, 1, 3)
        publish(hub, 1, 2, "b")
        await client.subscribe("c", confirm=True)  # by then all of them are in the inbox
        assert (position_of(client, "a"), position_of(client, "b")) == (0, 0)
        assert client.position("c") is None
        first = await client.receive()
        assert (position_of(client, "a"), position_of(client, "b")) == (1, 0)
        client.put_back(first)
        assert position_of(client, "a") == 0
        await receive(client, 4)
        assert (position_of(client, "a"), position_of(client, "b")) == (3, 1)
        await client.close()
        assert (position_of(client, "a"), position_of(client, "b")) == (3, 1)
        await receive(client, 1)
        assert position_of(client, "b") == 2


async def test_the_position_is_behind_the_message_of_a_callback_that_runs() -> None:
    positions: list[int] = []

    def note(message: Message) -> None:
        positions.append(message.offset - position_of(client))

    async with serving() as (hub, url):
        client = ReconnectingClient(url, on_message=note, **QUICK)
        async with client:
            await client.subscribe("a", confirm=True)
            publish(hub, 1, 50)
            await eventually(lambda: len(positions) == 50)
    assert positions == [0] * 50


async def test_a_program_goes_on_at_its_position_in_a_later_run() -> None:
    async with serving() as (hub, url):
        async with ReconnectingClient(url) as client:
            await client.subscribe("a", confirm=True)
            publish(hub, 1, 10)
            assert await receive(client, 3) == [1, 2, 3]
        # Messages that were read and never received come again.
        position = client.position("a")
        publish(hub, 11, 12)
        async with ReconnectingClient(url) as client:
            await client.subscribe("a", since=position)
            assert await receive(client, 9) == numbers(4, 12)
        async with ReconnectingClient(url) as client:
            await client.subscribe("a", last=2)
            # The channel is subscribed already, so this changes nothing.
            await client.subscribe("a", since=0, confirm=True)
            assert await receive(client, 2) == [11, 12]
            await client.unsubscribe("a")
            await client.subscribe("a", since=10)
            assert await receive(client, 2) == [11, 12]


def test_a_blocking_client_has_positions_and_gaps(no_loop: None) -> None:
    gaps: list[Gap] = []
    history = {"a": HistoryLimits(messages=3)}
    with Served(history=history) as served:
        publish(served.hub, 1, 5)
        with BlockingClient(served.url, on_gap=gaps.append) as client:
            client.subscribe("a", since=0, confirm=True)
            assert client.receive(timeout=10).data == 3
            assert position_of(client) == 3
        assert position_of(client) == 3
        assert gaps == [Gap("a", "trimmed", 2)]
        assert client.duplicate_messages == 0
        # Messages that were not received before the end come again.
        with BlockingClient(served.url) as later:
            later.subscribe("a", since=client.position("a"))
            assert later.receive(timeout=10).data == 4
            assert position_of(later) == 4


@pytest.fixture
def no_loop(leave_nothing_behind: None) -> None:
    """Let a test without an event loop use the mark of this file."""


# Subscriptions.


async def test_a_hub_that_subscribes_its_clients_sends_nothing_twice() -> None:
    hubs: list[Hub] = []

    def subscribe(connection: Connection) -> None:
        hubs[0].subscribe_nowait(connection, "a")
        publish(hubs[0], 1, 2)

    async with serving(on_connect=subscribe) as (hub, url):
        hubs.append(hub)
        async with ReconnectingClient(url, **QUICK) as client:
            # Without a subscription of its own, the client passes messages on as they come.
            assert await receive(client, 2) == [1, 2]
            assert client.position("a") is None
            await client.subscribe("a", since=0, confirm=True)
            assert await receive(client, 2) == [1, 2]
            await hub.connections[0].close(1012)
            assert await receive(client, 2) == [1, 2]
            assert position_of(client) == 4


async def test_a_gap_is_reported_for_those_that_a_hub_without_answers_accepts() -> None:
    gaps: list[Gap] = []
    log = Log()
    async with websocket_server(refuse_secrets) as url:
        client = ReconnectingClient(url, on_gap=gaps.append, on_error=log.note_error, **QUICK)
        # The hub refuses one of them, and does not say which.
        for channel in ("a", "secret", "b"):
            await client.subscribe(channel, last=1)
        async with client:
            await eventually(lambda: len(gaps) == 2)
            await eventually(lambda: log.entries == ["SubscriptionRefusedError"])
            assert client.channels == ("a", "b")
    assert {each.channel for each in gaps} == {"a", "b"}
    assert {each.reason for each in gaps} == {"no_history"}


async def test_a_gap_that_a_callback_does_not_survive_is_counted() -> None:
    def fail(gap: Gap) -> None:
        raise LookupError("faulty")

    async with serving(history={"a": HistoryLimits(messages=1)}) as (hub, url):
        publish(hub, 1, 2)
        async with ReconnectingClient(url, on_gap=fail) as client:
            await client.subscribe("a", since=0)
            assert await receive(client, 1) == [2]
            await eventually(lambda: client.callback_errors == 1)
