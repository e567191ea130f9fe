"""The client as an application uses it: entered, or run with callbacks."""

import asyncio

import pytest
from client_servers import HELLO, Log, answer_pings, event, run, websocket_server
from support import eventually
from websockets.asyncio.server import ServerConnection

from wshub_client import ConnectionState, ReconnectingClient
from wshub_core import Hub, Message

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


async def test_entering_subscribing_iterating_and_leaving(hub: Hub, url: str) -> None:
    async with ReconnectingClient(url) as client:
        assert client.state.value == 2
        await client.subscribe("news", confirm=True)
        assert client.channels == ("news",)
        for number in range(3):
            hub.publish("news", Message(type="event", data=number))
        received = []
        async for message in client:
            received.append(message.data)
            if len(received) == 3:
                break
        assert received == [0, 1, 2]
        await client.unsubscribe("news")
        await client.send(Message(type="ping"))
        assert (await client.receive()).type == "pong"
        assert hub.channels == ()
    assert client.state is ConnectionState.DISCONNECTED
    await eventually(lambda: hub.stats().clients == 0)


async def test_callbacks_are_called_while_the_client_runs(hub: Hub, url: str) -> None:
    log = Log()
    client = ReconnectingClient(url, **log.callbacks())
    await client.subscribe("news")
    running = asyncio.create_task(run(client))
    await eventually(lambda: hub.channels == ("news",))
    hub.publish("news", HELLO)
    await eventually(lambda: "hello" in log.entries)
    await client.close()
    assert await running is None
    assert log.entries == ["connect", "hello", "disconnect"]


async def test_callbacks_may_be_async_and_use_the_client(hub: Hub, url: str) -> None:
    heard = []

    async def on_connect() -> None:
        await client.subscribe("news", confirm=True)
        hub.publish("news", HELLO)

    async def on_message(message: Message) -> None:
        heard.append(message.data)
        await client.close()

    client = ReconnectingClient(url, on_connect=on_connect, on_message=on_message)
    async with asyncio.timeout(5):
        await client.run()
    assert heard == ["hello"]


async def test_on_raw_gets_each_websocket_message_as_it_was_read() -> None:
    async def batch(socket: ServerConnection) -> None:
        await socket.send(event(1) + "\n" + event(2))
        await answer_pings(socket)

    raw: list[str | bytes] = []
    async with (
        websocket_server(batch) as url,
        ReconnectingClient(url, on_raw=raw.append) as client,
    ):
        await client.send(Message(type="ping"))
        await eventually(lambda: len(raw) == 3)
    assert raw[0] == event(1) + "\n" + event(2)
