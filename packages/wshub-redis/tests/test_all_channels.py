"""A hub that needs all channels: each message arrives once, with any other subscriptions."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis.asyncio
from fleet import wait_until
from redis.asyncio import RedisCluster
from redis_servers import RedisServer, run_cluster, run_server

from wshub_core import BridgeState, Hub, Message, MessageType
from wshub_core.testing import connect
from wshub_redis import RedisBridge


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(port=server.port) as client:
        yield client


def envelope(data: Any) -> bytes:
    """Return an envelope of go-ws. It has no number, so a second copy would be delivered."""
    return json.dumps({"sourceId": "go", "message": {"type": "event", "data": data}}).encode()


def hear(hub: Hub) -> list[tuple[str, Any]]:
    heard: list[tuple[str, Any]] = []
    hub.add_publish_listener(lambda channel, message: heard.append((channel, message.data)))
    return heard


async def test_each_message_arrives_once_while_channels_are_subscribed_to_and_left(
    server: RedisServer, client: Any
) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        heard = hear(hub)
        waiter = None
        for number in range(600):
            publishing = asyncio.create_task(client.publish("ws:channel:news", envelope(number)))
            # Directly on the bridge, because the hub keeps a channel for a second. So all orders of
            # commands occur.
            if number % 3:
                bridge.subscribe("news")
            else:
                bridge.unsubscribe("news")
            if number == 200:
                waiter = bridge.subscribe_all()
                bridge.subscribe("news")
            if number < 200:
                bridge.subscribe("news")
            await publishing
        assert waiter is not None
        await waiter
        await client.publish("ws:channel:news", envelope("end"))
        await wait_until(lambda: heard[-1:] == [("news", "end")])
        numbers = [data for _, data in heard[:-1]]
        assert len(numbers) == len(set(numbers))
        assert numbers == sorted(numbers)
        assert numbers[-399:] == list(range(201, 600))


async def test_messages_of_all_channels_arrive_after_a_reconnect(
    server: RedisServer, client: Any
) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        heard = hear(hub)
        await hub.subscribe_all()
        await hub.subscribe_all()
        for number in range(3):
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await wait_until(lambda number=number: bridge.stats().reconnects == number + 1)  # type: ignore[misc]
            await wait_until(lambda: bridge.state == BridgeState.UP)
            await client.publish("ws:channel:news", envelope(number))
            await wait_until(lambda number=number: ("news", number) in heard)  # type: ignore[misc]
        assert heard == [("news", 0), ("news", 1), ("news", 2)]


async def test_messages_of_all_channels_arrive_when_the_start_returns(
    server: RedisServer, client: Any
) -> None:
    async with Hub() as hub:
        heard = hear(hub)
        await hub.subscribe_all()
        bridge = RedisBridge(hub, server.url)
        for number in range(2):
            async with bridge:
                await client.publish("ws:channel:news", envelope(number))
                await wait_until(lambda number=number: ("news", number) in heard)  # type: ignore[misc]
            assert await client.pubsub_numpat() == 0


async def test_messages_on_invalid_channel_names_are_junk(server: RedisServer, client: Any) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        listener = await connect(hub)
        await hub.subscribe_all()
        # The pattern matches these names. The first must not be taken for a broadcast.
        names = [
            b"ws:channel:",
            b"ws:channel:no spaces",
            b"ws:channel:\xff",
            b"ws:channel:" + b"x" * 999,
        ]
        for name in names:
            await client.publish(name, envelope("junk"))
        await client.publish("ws:broadcast", envelope("end"))
        assert (await listener.receive()).data == "end"
        assert bridge.stats().junk == len(names)
        assert bridge.state == BridgeState.UP


async def test_without_the_right_to_the_pattern_other_channels_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = (
        "user hub on >secret resetchannels &ws:* +publish +subscribe +unsubscribe +@connection\n"
    )
    with run_server(config=config) as server:
        options: dict[str, Any] = {"username": "hub", "password": "secret"}
        async with Hub() as hub, Hub() as other:
            listener = await connect(hub)
            listener.subscribe("news")
            await listener.sync()
            async with RedisBridge(hub, server.url, **options) as bridge:
                await hub.subscribe_all()
                assert "refuses 'ws:channel:*'" in caplog.text
                async with RedisBridge(other, server.url) as publisher:
                    await publisher.publish("news", Message(type=MessageType.EVENT, data=1))
                assert (await listener.receive()).data == 1
                assert (bridge.state, bridge.stats().reconnects) == (BridgeState.UP, 0)


async def test_a_sharded_bridge_logs_that_it_cannot_subscribe_to_all_channels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with run_cluster() as servers:
        async with (
            RedisCluster(host="127.0.0.1", port=servers[0].port) as cluster,
            Hub() as hub,
            RedisBridge(hub, cluster, sharded=True) as bridge,
        ):
            assert bridge.subscribe_all() is None
            assert "no subscription to all channels" in caplog.text
            await hub.subscribe_all()
