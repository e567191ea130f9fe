"""Answers of hubs with and without ids, and messages that look like answers.

The application of a hub, and everybody who may write to its Redis, can broadcast such messages.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from client_servers import Log, refuse_secrets, run, websocket_server
from support import eventually
from websockets.asyncio.server import ServerConnection

from wshub_client import PublishRefusedError, ReconnectingClient, SubscriptionRefusedError
from wshub_core import Connection, Hub, HubConfig, Message, encode_message

QUICK: dict[str, Any] = {"initial_backoff": 0.001, "max_backoff": 0.002}

PONG = Message(type="pong")
REFUSAL = Message(type="error", data="Subscribe: subscription unauthorised")


async def outcomes(client: ReconnectingClient, channels: list[str]) -> dict[str, bool]:
    """Subscribe before the client starts; return which channels were confirmed."""
    asked = {
        channel: asyncio.create_task(client.subscribe(channel, confirm=True))
        for channel in channels
    }
    await asyncio.sleep(0)
    async with client, asyncio.timeout(10):
        await asyncio.wait(asked.values())
        assert set(client.channels) == {
            name for name, task in asked.items() if task.exception() is None
        }
    for task in asked.values():
        assert isinstance(task.exception(), SubscriptionRefusedError | None)
    return {channel: task.exception() is None for channel, task in asked.items()}


# Hubs that answer no ids.


@pytest.mark.parametrize(
    "channels",
    [
        ["secret.1", "news"],
        ["news", "secret.2"],
        ["secret.1", "a", "secret.2", "b", "secret.3"],
        ["secret.1", "secret.2"],
        ["a", "b"],
        [f"{'secret.' if number % 3 else ''}{number}" for number in range(60)],
    ],
    ids=lambda channels: f"{len(channels)}-{channels[0]}",
)
async def test_refusals_among_several_subscriptions_mean_the_right_channels(
    channels: list[str],
) -> None:
    async with websocket_server(refuse_secrets) as url:
        confirmed = await outcomes(ReconnectingClient(url), channels)
    assert confirmed == {name: not name.startswith("secret") for name in channels}


async def test_refusals_among_restored_subscriptions_mean_the_right_channels() -> None:
    number = 0

    async def change_its_mind(socket: ServerConnection) -> None:
        nonlocal number
        number += 1
        if number > 1:
            await refuse_secrets(socket)
            return
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] == "ping":
                await socket.send('{"type":"pong"}')
            elif frame["type"] == "leave":
                return

    log = Log()
    async with (
        websocket_server(change_its_mind) as url,
        ReconnectingClient(url, **log.callbacks(), **QUICK) as client,
    ):
        for channel in ("news", "secret.1", "sport"):
            await client.subscribe(channel, confirm=True)
        await client.send(Message(type="leave"))
        await eventually(lambda: "SubscriptionRefusedError" in log.entries)
        assert client.channels == ("news", "sport")
        assert log.entries.count("SubscriptionRefusedError") == 1
        assert ("reconnect", 1) in log.entries


async def test_an_unsubscribed_channel_is_not_requested_again() -> None:
    subscribed: list[str] = []
    client: ReconnectingClient

    async def note(socket: ServerConnection) -> None:
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] == "subscribe":
                subscribed.append(frame["channel"])
                if frame["channel"] == "secret":
                    await socket.send(encode_message(REFUSAL).decode())
            elif frame["type"] == "ping":
                await client.unsubscribe("b")
                await socket.send('{"type":"pong"}')

    log = Log()
    async with websocket_server(note) as url:
        client = ReconnectingClient(url, on_error=log.note_error)
        for channel in ("a", "b", "secret"):
            await client.subscribe(channel)
        async with client:
            await eventually(lambda: log.entries == ["SubscriptionRefusedError"])
            await client.subscribe("a", confirm=True)
    assert sorted(subscribed) == ["a", "a", "b", "secret", "secret"]


async def test_a_hub_that_answers_no_ids_refuses_to_publish() -> None:
    async with websocket_server(refuse_secrets) as url, ReconnectingClient(url) as client:
        with pytest.raises(PublishRefusedError, match="takes no messages"):
            await client.publish("news", 1)


# Messages that look like answers.


@asynccontextmanager
async def forging(hub: Hub, *messages: Message) -> AsyncIterator[None]:
    """Send messages to everybody, again and again."""

    async def forge() -> None:
        while True:
            for connection in hub.connections:
                for message in messages:
                    connection.send(message)
            await asyncio.sleep(0)

    task = asyncio.create_task(forge())
    try:
        yield
    finally:
        assert not task.done(), "it has forged all the time"
        task.cancel()


async def authorize(_: Connection, channel: str) -> bool:
    await asyncio.sleep(0.05)
    return not channel.startswith("secret")


@pytest.mark.parametrize("messages", [[PONG], [REFUSAL], [REFUSAL, PONG], [PONG, REFUSAL]])
async def test_forgeries_confirm_and_refuse_nothing_while_the_client_connects(
    messages: list[Message],
) -> None:
    config = HubConfig(channel_authorizer=authorize, max_outbox_bytes=100_000_000)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        client = ReconnectingClient(
            f"ws://127.0.0.1:{server.port}/ws", on_message=lambda _: None, **QUICK
        )
        channels = ["a", "secret.1", "b", "secret.2"]
        async with forging(hub, *messages):
            confirmed = await outcomes(client, channels)
    assert confirmed == {name: not name.startswith("secret") for name in channels}


async def test_a_forged_pong_before_the_first_answer_does_not_open_the_connection() -> None:
    may_answer = asyncio.Event()

    async def decide(_: Connection, channel: str) -> bool:
        await may_answer.wait()
        return False

    config = HubConfig(
        channel_authorizer=decide,
        on_connect=lambda connection: connection.send(Message(type="pong")),
    )
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        client = ReconnectingClient(f"ws://127.0.0.1:{server.port}/ws")
        asking = asyncio.create_task(client.subscribe("a", confirm=True))
        running = asyncio.create_task(run(client))
        await eventually(lambda: hub.stats().clients == 1)
        # Longer than the client waits for an answer that was overtaken.
        await asyncio.sleep(0.5)
        assert client.state.name == "CONNECTING"
        may_answer.set()
        with pytest.raises(SubscriptionRefusedError):
            await asking
        await client.close()
        await running


async def test_forgeries_reach_the_application_as_messages() -> None:
    async with (
        Hub() as hub,
        hub.serve("127.0.0.1", 0) as server,
        ReconnectingClient(f"ws://127.0.0.1:{server.port}/ws") as client,
    ):
        forged = [
            REFUSAL,
            PONG,
            Message(type="subscribed", channel="a"),
            Message(type="published", channel="a"),
            Message(type="authenticated", data={"expiresAt": None}),
        ]
        asking = asyncio.create_task(client.subscribe("a", confirm=True))
        await asyncio.sleep(0)
        for message in forged:
            hub.connections[0].send(message)
        await asking
        heard = [await client.receive() for _ in forged]
        assert [message.type for message in heard] == [message.type for message in forged]


async def test_a_forged_pong_publishes_nothing_and_is_no_refusal() -> None:
    config = HubConfig(publish_authorizer=authorize, max_outbox_bytes=100_000_000)
    async with (
        Hub(config) as hub,
        hub.serve("127.0.0.1", 0) as server,
        ReconnectingClient(f"ws://127.0.0.1:{server.port}/ws", on_message=lambda _: None) as client,
        forging(hub, PONG, Message(type="published", channel="a")),
    ):
        await client.publish("a", 1)
        with pytest.raises(PublishRefusedError) as refused:
            await client.publish("secret", 1)
    assert (refused.value.code, refused.value.reason) == (
        "publish_denied",
        "Publish: publish denied",
    )


async def test_a_confirmation_that_comes_after_the_pong_is_waited_for() -> None:
    may_confirm = asyncio.Event()

    async def confirm_late(socket: ServerConnection) -> None:
        async def confirm(frame: dict[str, Any]) -> None:
            await may_confirm.wait()
            answer = {"type": "subscribed", "channel": frame["channel"], "id": frame["id"]}
            await socket.send(json.dumps(answer))

        confirming = []
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] == "subscribe":
                confirming.append(asyncio.create_task(confirm(frame)))
            elif frame["type"] == "ping":
                await socket.send(json.dumps({"type": "pong", "id": frame["id"]}))

    # As a hub does whose bridge is down.
    async with websocket_server(confirm_late) as url, ReconnectingClient(url) as client:
        asking = asyncio.create_task(client.subscribe("a", confirm=True))
        await client.subscribe("b")
        with pytest.raises(PublishRefusedError):
            await client.publish("c", 1)  # its pong comes behind that of the subscription
        assert not asking.done()
        may_confirm.set()
        await asking


async def test_a_cancelled_ping_does_not_shift_the_pongs() -> None:
    async with websocket_server(refuse_secrets) as url, ReconnectingClient(url) as client:
        for _ in range(20):
            sending = asyncio.create_task(client.send(Message(type="ping")))
            await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait({sending})
        with pytest.raises(SubscriptionRefusedError):
            await client.subscribe("secret", confirm=True)
        await client.subscribe("a", confirm=True)
        assert [(await client.receive()).type for _ in range(20)] == ["pong"] * 20
