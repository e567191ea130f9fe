"""Publishing from programs without a hub."""

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
from redis_servers import RedisServer, find_free_port, run_server
from tcp_proxy import run_proxy

from wshub_core import (
    BridgeUnavailableError,
    Hub,
    InvalidChannelError,
    InvalidConfigError,
    InvalidProcessIDError,
    Message,
    MessageEncodeError,
    MessageTooLargeError,
    MessageType,
)
from wshub_core.testing import MemoryClient, connect
from wshub_redis import AsyncRedisPublisher, InvalidPrefixError, RedisBridge, RedisPublisher


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@pytest.fixture
async def listener(server: RedisServer) -> AsyncIterator[MemoryClient]:
    """A client of a hub, subscribed to a process and to news."""
    async with Hub() as hub, RedisBridge(hub, server.url):
        client = await connect(hub)
        client.subscribe("process:b")
        client.subscribe("news")
        await client.sync()
        yield client


def publish_everything(url: str) -> None:
    publisher = RedisPublisher(url)
    publisher.send_event("job:done", {"id": 7})
    publisher.send_error("too bad")
    publisher.send_process_output("b", "line")
    publisher.send_process_output("b", "50 %", overwrites=True)
    publisher.send_process_status("b", "exited", 3)
    publisher.publish("news", Message(type="custom", channel="ignored", data=[1]))
    publisher.broadcast(Message(type="custom", channel="kept"))
    publisher.close()


EVERYTHING = [
    ("event", "", "", {"data": {"id": 7}, "event": "job:done"}, False),
    ("error", "", "", "too bad", False),
    ("process_output", "process:b", "b", "line", False),
    ("process_output", "process:b", "b", "50 %", True),
    ("process_status", "process:b", "b", {"exitCode": 3, "status": "exited"}, False),
    ("custom", "news", "", [1], False),
    ("custom", "kept", "", None, False),
]


async def received(listener: MemoryClient, count: int) -> list[tuple[Any, ...]]:
    messages = [await listener.receive() for _ in range(count)]
    assert all(message.timestamp is not None for message in messages)
    return [
        (each.type, each.channel, each.process_id, each.data, each.overwrites) for each in messages
    ]


async def test_a_blocking_publisher_reaches_the_clients_of_hubs(
    server: RedisServer, listener: MemoryClient
) -> None:
    await asyncio.to_thread(publish_everything, server.url)
    assert await received(listener, 7) == EVERYTHING


async def test_an_async_publisher_reaches_the_clients_of_hubs(
    server: RedisServer, listener: MemoryClient
) -> None:
    async with AsyncRedisPublisher(server.url) as publisher:
        await publisher.send_event("job:done", {"id": 7})
        await publisher.send_error("too bad")
        await publisher.send_process_output("b", "line")
        await publisher.send_process_output("b", "50 %", overwrites=True)
        await publisher.send_process_status("b", "exited", 3)
        await publisher.publish("news", Message(type="custom", channel="ignored", data=[1]))
        await publisher.broadcast(Message(type="custom", channel="kept"))
    assert await received(listener, 7) == EVERYTHING
    with pytest.raises(BridgeUnavailableError, match="not open"):
        await publisher.send_event("late")


async def test_messages_of_one_moment_are_sent_together_and_in_order(
    server: RedisServer, listener: MemoryClient
) -> None:
    async with AsyncRedisPublisher(server.url) as publisher:
        messages = [Message(type=MessageType.EVENT, data=number) for number in range(500)]
        await asyncio.gather(*(publisher.publish("news", message) for message in messages))
    assert [(await listener.receive()).data for _ in range(500)] == list(range(500))


async def test_threads_can_share_a_publisher(server: RedisServer, listener: MemoryClient) -> None:
    def publish(thread: int) -> None:
        for number in range(50):
            publisher.publish("news", Message(type=MessageType.EVENT, data=[thread, number]))

    with RedisPublisher(server.url) as publisher, ThreadPoolExecutor(8) as threads:
        await asyncio.gather(
            *(asyncio.get_running_loop().run_in_executor(threads, publish, n) for n in range(8))
        )
        data = [(await listener.receive()).data for _ in range(400)]
    for thread in range(8):
        assert [number for name, number in data if name == thread] == list(range(50))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_publisher_works_in_both_processes_after_a_fork(
    server: RedisServer, listener: MemoryClient
) -> None:
    with RedisPublisher(server.url) as publisher:
        await asyncio.to_thread(publisher.send_event, "before")
        fork = multiprocessing.get_context("fork")
        process = fork.Process(target=publisher.send_event, args=("child",), daemon=True)
        process.start()
        await asyncio.to_thread(process.join, 30)
        assert process.exitcode == 0
        await asyncio.to_thread(publisher.send_event, "after")
    names = [(await listener.receive()).data["event"] for _ in range(3)]
    assert names == ["before", "child", "after"]


async def test_an_idle_connection_that_the_server_has_closed_is_no_failure(
    server: RedisServer, listener: MemoryClient
) -> None:
    def kill() -> None:
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    with RedisPublisher(server.url) as publisher:
        for number in range(3):
            await asyncio.to_thread(publisher.send_event, str(number))
            await asyncio.to_thread(kill)
    assert [(await listener.receive()).data["event"] for _ in range(3)] == ["0", "1", "2"]


async def test_a_client_of_the_application_stays_open(
    server: RedisServer, listener: MemoryClient
) -> None:
    with redis.Redis(port=server.port, decode_responses=True) as client:
        with RedisPublisher(client) as publisher:
            await asyncio.to_thread(publisher.send_event, "x")
        assert client.ping()
    async with (
        redis.asyncio.Redis(port=server.port) as async_client,
        AsyncRedisPublisher(async_client) as async_publisher,
    ):
        await async_publisher.send_event("y")
    assert [(await listener.receive()).data["event"] for _ in range(2)] == ["x", "y"]


async def test_publishing_without_a_server_raises(server: RedisServer) -> None:
    port = find_free_port()
    publisher = RedisPublisher(f"redis://u:secret@127.0.0.1:{port}")
    with pytest.raises(BridgeUnavailableError, match=f"127.0.0.1:{port} did not accept") as caught:
        publisher.send_event("x")
    assert "secret" not in str(caught.value)
    with pytest.raises(
        BridgeUnavailableError, match=f"cannot connect to redis at 127.0.0.1:{port}"
    ):
        async with AsyncRedisPublisher(f"redis://u:secret@127.0.0.1:{port}"):
            pass
    async with AsyncRedisPublisher(server.url, replay_seconds=0.3) as async_publisher:
        server.kill()
        with pytest.raises(BridgeUnavailableError, match=r"no connection for 0\.3 s"):
            await async_publisher.send_event("x")


async def test_messages_of_a_short_outage_arrive(
    server: RedisServer, listener: MemoryClient
) -> None:
    async with run_proxy(server.port) as proxy, AsyncRedisPublisher(proxy.url) as publisher:
        proxy.is_refusing = True
        proxy.close_connections()
        events = [asyncio.create_task(publisher.send_event(str(number))) for number in range(20)]
        await asyncio.sleep(0.2)
        assert not any(event.done() for event in events)
        proxy.is_refusing = False
        await asyncio.gather(*events)
        names = [(await listener.receive()).data["event"] for _ in range(20)]
    assert names == [str(number) for number in range(20)]


BAD = [
    ("no spaces", Message(type="x"), InvalidChannelError),
    ("", Message(type="x"), InvalidChannelError),
    ("process:a:b", Message(type="x"), InvalidProcessIDError),
    ("news", Message(type="x", process_id="a b"), InvalidProcessIDError),
    ("news", Message(type="x", data=float("nan")), MessageEncodeError),
    ("news", Message(type="x", data="x" * 65_500), MessageTooLargeError),
]


@pytest.mark.parametrize(("channel", "message", "error"), BAD)
async def test_publishers_reject_the_messages_that_hubs_reject(
    server: RedisServer, channel: str, message: Message, error: type[Exception]
) -> None:
    with RedisPublisher(server.url) as publisher, pytest.raises(error):
        publisher.publish(channel, message)
    async with AsyncRedisPublisher(server.url) as async_publisher:
        with pytest.raises(error):
            await async_publisher.publish(channel, message)


@pytest.mark.parametrize("publisher", [RedisPublisher, AsyncRedisPublisher])
def test_invalid_settings_of_publishers_are_rejected(publisher: Any) -> None:
    with pytest.raises(InvalidPrefixError):
        publisher(prefix="a b")
    with pytest.raises(InvalidConfigError, match="use redis://"):
        publisher("localhost:6379")
    with pytest.raises(InvalidConfigError, match="foo"):
        publisher(foo=1)
    if publisher is RedisPublisher:
        with pytest.raises(InvalidConfigError, match="RedisCluster"):
            publisher(sharded=True)
