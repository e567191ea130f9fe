"""The callback on_state_change: the bridge recovers and reports, whatever the callback does."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from fleet import wait_until
from redis_servers import RedisServer, run_server

from wshub_core import BridgeState, Hub, HubConfig, Message, MessageType
from wshub_core.testing import connect
from wshub_redis import RedisBridge


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


def kill_listener(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


async def assert_comes_back(
    server: RedisServer, on_state_change: Callable[[RedisBridge], Awaitable[object] | object]
) -> None:
    """Close the connection of a bridge twice; check the reported states and the delivery."""
    states: list[BridgeState] = []

    def note(bridge: RedisBridge) -> Awaitable[object] | object:
        states.append(bridge.state)
        return on_state_change(bridge)

    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(Hub(HubConfig(close_timeout=0.2)))
        bridge = RedisBridge(hub, server.url, on_state_change=note)
        await stack.enter_async_context(bridge)
        other = await stack.enter_async_context(Hub())
        far = await stack.enter_async_context(RedisBridge(other, server.url))
        client = await connect(hub)
        for number in range(2):
            kill_listener(server)
            await wait_until(lambda count=2 * number + 2: len(states) == count)  # type: ignore[misc]
            await wait_until(lambda: far.state == BridgeState.UP)
        assert states == [BridgeState.DEGRADED, BridgeState.UP] * 2
        await far.broadcast(Message(type=MessageType.EVENT, data="still"))
        assert (await client.receive()).data == "still"
        async with asyncio.timeout(5):
            await bridge.stop()
            await hub.close()


@pytest.mark.parametrize("error", [RuntimeError])
async def test_a_callback_may_raise(server: RedisServer, error: type[BaseException]) -> None:
    def fail(_: RedisBridge) -> None:
        raise error

    await assert_comes_back(server, fail)


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_an_async_callback_may_raise(server: RedisServer, error: type[BaseException]) -> None:
    async def fail(_: RedisBridge) -> None:
        await asyncio.sleep(0)
        raise error

    await assert_comes_back(server, fail)


async def test_an_async_callback_may_never_end(server: RedisServer) -> None:
    async def hang(_: RedisBridge) -> None:
        await asyncio.get_running_loop().create_future()

    await assert_comes_back(server, hang)


async def test_an_async_callback_may_ignore_its_cancellation(server: RedisServer) -> None:
    is_over = asyncio.Event()

    async def ignore(_: RedisBridge) -> None:
        while not is_over.is_set():
            try:
                await is_over.wait()
            except asyncio.CancelledError:
                continue

    before = asyncio.all_tasks()
    await assert_comes_back(server, ignore)
    is_over.set()
    await wait_until(lambda: asyncio.all_tasks() <= before)


async def test_a_callback_may_stop_the_bridge(server: RedisServer) -> None:
    async with Hub() as hub:
        before = asyncio.all_tasks()
        bridge = RedisBridge(hub, server.url, on_state_change=lambda each: each.stop())
        await bridge.start()
        kill_listener(server)
        await wait_until(lambda: "not running" in bridge.reason)
        await wait_until(lambda: asyncio.all_tasks() == before)
        async with bridge:
            await bridge.broadcast(Message(type=MessageType.EVENT))
