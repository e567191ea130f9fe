"""Forks: a child shares the connections of its parent, and must not use them."""

import asyncio
import os
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from fleet import wait_until
from forking import fork
from redis_servers import RedisServer, run_server

from wshub_core import BridgeState, ForkedProcessError, Hub, Message, MessageType
from wshub_core.testing import connect
from wshub_redis import AsyncRedisPublisher, RedisBridge, RedisPublisher

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

MESSAGE = Message(type=MessageType.EVENT, data="x")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


async def run_in_child(work: Callable[[], None]) -> None:
    """Run a function in a forked child; an exception fails the test."""
    child = fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert status == 0


def call(function: Callable[[], Any]) -> None:
    """Call a function; a coroutine must raise before its first wait."""
    result = function()
    if isinstance(result, Awaitable):
        next(iter(result.__await__()))


def assert_refused(*functions: Callable[[], Any]) -> None:
    for function in functions:
        with pytest.raises(ForkedProcessError, match="belongs to the parent process"):
            call(function)


async def test_a_bridge_raises_in_a_forked_child_and_works_in_the_parent(
    server: RedisServer,
) -> None:
    told = []
    async with (
        Hub() as hub,
        Hub() as other,
        RedisBridge(hub, server.url, on_state_change=lambda each: told.append(each)) as bridge,
        RedisBridge(other, server.url) as other_bridge,
    ):
        near, far = await connect(hub), await connect(other)
        for client in (near, far):
            client.subscribe("news")
            await client.sync()
        await run_in_child(
            lambda: assert_refused(
                lambda: bridge.publish("news", MESSAGE),
                lambda: bridge.broadcast(MESSAGE),
                bridge.start,
                bridge.stop,
                lambda: bridge.__aexit__(None, None, None),
                lambda: bridge.forward("news", b"{}"),
                lambda: bridge.subscribe("more"),
                lambda: bridge.unsubscribe("news"),
                bridge.subscribe_all,
                bridge.drain,
            )
        )
        for number in range(3):
            await bridge.publish("news", Message(type=MessageType.EVENT, data=number))
            assert (await near.receive()).data == (await far.receive()).data == number
        assert not near.messages
        assert told == []
        for each in (bridge, other_bridge):
            assert (each.state, each.stats().reconnects) == (BridgeState.UP, 0)


async def test_a_child_that_runs_the_parents_event_loop_reports_no_state(
    server: RedisServer,
) -> None:
    told: list[int] = []
    read_end, write_end = os.pipe()
    async with (
        Hub() as hub,
        RedisBridge(
            hub,
            server.url,
            on_state_change=lambda _: told.append(os.getpid()),
            timeout=1,
            probe_interval=0.5,
        ) as bridge,
    ):
        loop = asyncio.get_running_loop()
        # Created in the parent, because asyncio has no running loop in a forked child.
        is_late = loop.create_future()
        loop.call_later(1, is_late.set_result, None)
        child = fork()
        if child == 0:
            try:
                await is_late
            finally:
                os.write(write_end, str(len(told)).encode())
                os._exit(0)
        with server.client() as client:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await asyncio.to_thread(os.waitpid, child, 0)
        assert os.read(read_end, 10) == b"0"
        await wait_until(lambda: bridge.stats().reconnects >= 2)
        await wait_until(lambda: bridge.state == BridgeState.UP)
        await bridge.broadcast(MESSAGE)
        assert set(told) == {os.getpid()}
    os.close(read_end)
    os.close(write_end)


async def test_an_async_publisher_raises_in_a_forked_child(server: RedisServer) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url):
        client = await connect(hub)
        async with AsyncRedisPublisher(server.url) as publisher:
            await publisher.send_event("before")
            await run_in_child(
                lambda: assert_refused(
                    lambda: publisher.publish("news", MESSAGE),
                    lambda: publisher.broadcast(MESSAGE),
                    lambda: publisher.send_event("child"),
                    lambda: publisher.send_error("child"),
                    lambda: publisher.send_process_output("b", "child"),
                    lambda: publisher.send_process_status("b", "child"),
                    publisher.__aenter__,
                    lambda: publisher.__aexit__(None, None, None),
                )
            )
            await publisher.send_event("after")
        names = [(await client.receive()).data["event"] for _ in range(2)]
        assert names == ["before", "after"]


async def test_an_object_that_was_not_started_before_a_fork_can_be_started_in_the_child(
    server: RedisServer,
) -> None:
    hub = Hub()
    bridge = RedisBridge(hub, server.url)
    publisher = AsyncRedisPublisher(server.url)

    def work() -> None:
        async def main() -> None:
            async with hub, bridge, publisher:
                client = await connect(hub)
                await publisher.send_event("child")
                assert (await client.receive()).data["event"] == "child"

        with asyncio.Runner() as runner:
            runner.run(main())

    thread_result: list[int] = []

    def fork_and_wait() -> None:
        child = fork()
        if child == 0:
            try:
                work()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        thread_result.append(os.waitpid(child, 0)[1])

    # The fork happens in a thread without an event loop, as in servers with worker processes.
    await asyncio.to_thread(fork_and_wait)
    assert thread_result == [0]


async def test_a_blocking_publisher_works_after_a_fork_while_threads_use_it(
    server: RedisServer,
) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        client = await connect(hub)
        is_over = threading.Event()
        published = 0

        def publish() -> None:
            nonlocal published
            while not is_over.is_set():
                publisher.send_event("parent", published)
                published += 1

        with RedisPublisher(server.url) as publisher:
            thread = threading.Thread(target=publish, daemon=True)
            thread.start()
            try:
                for number in range(20):
                    await run_in_child(lambda number=number: publisher.send_event("child", number))  # type: ignore[misc]
            finally:
                is_over.set()
                await asyncio.to_thread(thread.join, 30)
        await wait_until(lambda: bridge.stats().received == published + 20)
        data = [(await client.receive()).data for _ in range(published + 20)]
        for name, count in (("parent", published), ("child", 20)):
            assert [each["data"] for each in data if each["event"] == name] == list(range(count))
        assert bridge.stats().duplicates == 0
