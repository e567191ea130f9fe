"""The table of subscriptions, and calls that wait for a confirmation."""

import asyncio
import json
from typing import Any

import pytest
from client_servers import QUICK, answer_pings, run, websocket_server
from support import eventually
from websockets.asyncio.server import ServerConnection

from wshub_client import ClientClosedError, ReconnectingClient, SubscriptionRefusedError
from wshub_core import Hub, HubConfig

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


async def test_waiting_for_a_confirmation_survives_reconnects() -> None:
    gate = asyncio.Event()

    async def decide(connection: Any, channel: str) -> bool:
        await gate.wait()
        return channel != "secret"

    config = HubConfig(channel_authorizer=decide)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url, **QUICK) as client:
            waiting = [
                asyncio.create_task(client.subscribe(channel, confirm=True))
                for channel in ("news", "news", "secret")
            ]
            await asyncio.sleep(0.01)
            for connection in hub.connections:
                closing = asyncio.create_task(connection.close(4000))
            gate.set()
            await closing
            async with asyncio.timeout(5):
                await asyncio.wait(waiting)
            assert [task.exception() for task in waiting[:2]] == [None, None]
            assert isinstance(waiting[2].exception(), SubscriptionRefusedError)
            assert client.channels == ("news",)
            await client.subscribe("news", confirm=True)  # it stands already


async def test_unsubscribing_ends_the_wait_for_the_confirmation() -> None:
    async with websocket_server(answer_pings) as url, ReconnectingClient(url) as client:
        waiting = asyncio.create_task(client.subscribe("news", confirm=True))
        await asyncio.sleep(0)
        await client.unsubscribe("news")
        with pytest.raises(SubscriptionRefusedError, match="unsubscribed meanwhile"):
            await waiting


async def test_an_answer_belongs_to_the_subscription_that_it_answers() -> None:
    answers = iter([False, True])
    gate = asyncio.Event()

    async def decide(connection: Any, channel: str) -> bool:
        await gate.wait()
        return next(answers)

    config = HubConfig(channel_authorizer=decide)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url) as client:
            await client.subscribe("x")
            await client.unsubscribe("x")
            confirming = asyncio.create_task(client.subscribe("x", confirm=True))
            await asyncio.sleep(0.01)
            gate.set()
            await confirming
            assert client.channels == hub.channels == ("x",)


async def test_a_refusal_of_another_channel_is_a_message() -> None:
    async def refuse_another(socket: ServerConnection) -> None:
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] == "subscribe":
                refusal = {
                    "type": "error",
                    "channel": "other",
                    "data": "Subscribe: subscription unauthorised",
                }
                await socket.send(json.dumps(refusal))
            elif frame["type"] == "ping":
                await socket.send('{"type":"pong"}')

    async with websocket_server(refuse_another) as url, ReconnectingClient(url) as client:
        await client.subscribe("mine", confirm=True)
        assert (await client.receive()).channel == "other"


async def test_closing_before_the_start_ends_the_wait_for_a_confirmation() -> None:
    client = ReconnectingClient("ws://127.0.0.1:1/ws")
    waiting = asyncio.create_task(client.subscribe("a", confirm=True))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ClientClosedError):
        await waiting


async def test_waits_that_time_out_leave_no_waiter_behind(url: str) -> None:
    async with (
        websocket_server(answer_only_the_first_ping) as silent,
        ReconnectingClient(silent, close_timeout=0.2) as client,
    ):
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await client.subscribe("a", confirm=True)
        (subscription,) = client._subscriptions._table.values()
        assert subscription.waiters == set()


async def answer_only_the_first_ping(socket: ServerConnection) -> None:
    await socket.recv()
    await socket.send('{"type":"pong"}')
    async for _ in socket:
        pass


async def test_a_confirmation_on_a_dial_that_fails_is_forgotten() -> None:
    dials = 0
    may_confirm = asyncio.Event()

    async def confirm(socket: ServerConnection) -> None:
        nonlocal dials
        dials += 1
        frames = [json.loads(await socket.recv()) for _ in range(3)]
        [request] = [each for each in frames if each["type"] == "subscribe"]
        if dials > 1:
            await may_confirm.wait()
        answer = {"type": "subscribed", "channel": "a", "id": request["id"]}
        await socket.send(json.dumps(answer))
        if dials > 1:
            await socket.send(json.dumps({"type": "pong", "id": frames[-1]["id"]}))
            await socket.wait_closed()

    async with websocket_server(confirm) as url:
        client = ReconnectingClient(url, **QUICK)
        await client.subscribe("a")
        running = asyncio.create_task(run(client))
        await eventually(lambda: dials == 2)
        confirming = asyncio.create_task(client.subscribe("a", confirm=True))
        await asyncio.sleep(0)
        was_confirmed = confirming.done()
        may_confirm.set()
        await confirming
        await client.close()
        await running
    assert not was_confirmed
