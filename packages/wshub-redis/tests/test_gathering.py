"""Messages that gather for the next round trip to Redis."""

from collections.abc import AsyncIterator, Iterator

import pytest
from fleet import wait_until
from redis_servers import RedisServer, run_server

from wshub_core import Hub, Message
from wshub_core.testing import MemoryClient, connect
from wshub_redis import RedisBridge, gathering


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@pytest.fixture
async def listener(server: RedisServer) -> AsyncIterator[MemoryClient]:
    async with Hub() as hub, RedisBridge(hub, server.url):
        client = await connect(hub)
        client.subscribe("news")
        await client.sync()
        yield client


@pytest.fixture
def endless_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let messages gather until something else ends it."""
    monkeypatch.setattr(gathering, "_GATHER_SECONDS", 3_600.0)


def publish(hub: Hub, first: int, last: int, padding: str = "") -> None:
    for number in range(first, last + 1):
        hub.publish("news", Message(type="event", data=[number, padding]))


async def receive(client: MemoryClient, count: int) -> list[int]:
    return [(await client.receive()).data[0] for _ in range(count)]


@pytest.mark.usefixtures("endless_gathering")
async def test_a_message_whose_publisher_waits_ends_the_gathering(
    server: RedisServer, listener: MemoryClient
) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        publish(hub, 1, 2)
        assert await receive(listener, 2) == [1, 2]
        await wait_until(lambda: bridge.stats().published == 2)
        publish(hub, 3, 4)
        # Round trips of the other hub show that there was time enough.
        async with Hub() as other, RedisBridge(other, server.url) as other_bridge:
            for _ in range(5):
                await other_bridge.publish("other", Message(type="event"))
        assert bridge.stats().published == 2
        await bridge.publish("news", Message(type="event", data=[5]))
        assert await receive(listener, 3) == [3, 4, 5]


@pytest.mark.usefixtures("endless_gathering")
async def test_a_full_batch_ends_the_gathering(server: RedisServer, listener: MemoryClient) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url):
        publish(hub, 1, 2)
        assert await receive(listener, 2) == [1, 2]
        publish(hub, 3, 302, "x" * 1_000)
        received = await receive(listener, 60)
        assert received == list(range(3, 63))


@pytest.mark.usefixtures("endless_gathering")
async def test_the_stop_of_a_bridge_and_a_call_of_drain_end_the_gathering(
    server: RedisServer, listener: MemoryClient
) -> None:
    async with Hub() as hub:
        async with RedisBridge(hub, server.url, max_queue_bytes=4_000) as bridge:
            publish(hub, 1, 2)
            assert await receive(listener, 2) == [1, 2]
            await wait_until(lambda: bridge.stats().published == 2)
            publish(hub, 3, 4, "x" * 1_000)
            await hub.drain()
            assert await receive(listener, 2) == [3, 4]
            await wait_until(lambda: bridge.stats().published == 4)
            publish(hub, 5, 6)
        assert await receive(listener, 2) == [5, 6]
        assert bridge.stats().lost == 0


async def test_messages_without_a_confirmation_are_sent_after_a_moment(
    server: RedisServer, listener: MemoryClient
) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url):
        for first in range(1, 100, 2):
            publish(hub, first, first + 1)
            assert await receive(listener, 2) == [first, first + 1]
