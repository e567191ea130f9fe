"""The way of messages to the application, which may be slow."""

import asyncio
from typing import Any

import pytest
from client_servers import HELLO, QUICK, Log, event, websocket_server
from support import eventually
from websockets.asyncio.server import ServerConnection

from wshub_client import DroppedError, ReconnectingClient
from wshub_core import Hub, HubConfig, Message

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


async def test_a_slow_reader_makes_the_hub_wait_and_loses_nothing() -> None:
    config = HubConfig(max_outbox_bytes=50_000_000)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url, inbox_size=10) as client:
            for number in range(20_000):
                hub.broadcast(Message(type="event", data=[number, "x" * 1_000]))
            await asyncio.sleep(0.2)
            # What the client does not take waits at the hub.
            delivered = hub.stats().deliveries
            assert delivered < 20_000
            received = [(await client.receive()).data[0] for _ in range(20_000)]
            assert received == list(range(20_000))
            assert client.dropped_messages == 0


async def test_a_reader_that_pauses_keeps_its_connection() -> None:
    ends: list[Any] = []
    config = HubConfig(
        heartbeat_interval=0.05, pong_timeout=0.3, on_disconnect=lambda _, end: ends.append(end)
    )
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url, inbox_size=10, heartbeat_interval=0.05) as client:
            for number in range(100):
                hub.broadcast(Message(type="event", data=number))
            # Far longer than the hub waits for a sign of life.
            await asyncio.sleep(1.0)
            assert ends == []
            assert [(await client.receive()).data for _ in range(100)] == list(range(100))


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_oldest", [*range(90, 100)]), ("drop_newest", [*range(10)])]
)
async def test_a_policy_that_drops_messages_counts_and_reports_them(
    hub: Hub, url: str, overflow: Any, kept: list[int]
) -> None:
    log = Log()
    options: dict[str, Any] = {"inbox_size": 10, "overflow": overflow}
    async with ReconnectingClient(url, on_error=log.note_error, **options) as client:
        await client.subscribe("a", confirm=True)
        for number in range(100):
            hub.publish("a", Message(type="event", data=number))
        await client.subscribe("b", confirm=True)  # by then all of it has come
        assert client.dropped_messages == 90
        assert [(await client.receive()).data for _ in range(10)] == kept
        hub.publish("a", HELLO)
        assert (await client.receive()).data == "hello"
        await eventually(lambda: log.entries == ["DroppedError"])
        (error,) = log.errors
        assert isinstance(error, DroppedError)
        assert error.count == 90


async def test_a_client_that_only_publishes_is_not_blocked_by_a_full_inbox(hub: Hub) -> None:
    config = HubConfig(publish_authorizer=lambda *_: True)
    async with Hub(config) as chatty, chatty.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url, inbox_size=10, **QUICK) as client, asyncio.timeout(10):
            for _ in range(100):
                for number in range(10):
                    chatty.broadcast(Message(type="event", data=number))
                await client.publish("chat", "hello")
            await client.subscribe("a", confirm=True)
            # Bounded all the same, and counted.
            assert client.dropped_messages >= 1_000 - 160


async def test_the_end_of_a_connection_is_noticed_although_the_inbox_is_full(
    hub: Hub, url: str
) -> None:
    async with ReconnectingClient(url, inbox_size=10, heartbeat_interval=0.05, **QUICK) as client:
        for number in range(100):
            hub.broadcast(Message(type="event", data=number))
        await asyncio.sleep(0.1)
        await hub.connections[0].close(1012)
        await eventually(lambda: hub.stats().connections == 2)
        assert [(await client.receive()).data for _ in range(100)] == list(range(100))


async def test_received_messages_can_be_read_after_the_end() -> None:
    async def send_and_leave(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"pong"}')
        for number in range(3):
            await socket.send(event(number))
        await socket.close(4500, "banned")

    async with websocket_server(send_and_leave) as url, ReconnectingClient(url) as client:
        assert [(await client.receive()).data for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Exception, match="closed for good: 4500 banned"):
            await client.receive()
