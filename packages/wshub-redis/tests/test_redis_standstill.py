"""Stalls: a process that stands still longer than the timeout keeps its connections."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from fleet import wait_until
from redis_servers import RedisServer, run_server

from wshub_core import BridgeState, Hub, Message, MessageType
from wshub_redis import AsyncRedisPublisher, RedisBridge

TIMEOUT = 0.2
MESSAGE = Message(type=MessageType.EVENT, data="x")

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine on asyncio or uvloop, which read and run timers in different orders."""
    module = pytest.importorskip(request.param)
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        yield runner.run


async def stand_still(turns: int) -> None:
    """Block the event loop after a number of turns, so that other tasks are at various steps."""
    for _ in range(turns):
        await asyncio.sleep(0)
    time.sleep(TIMEOUT * 1.5)  # noqa: ASYNC251 - this is what the test is about


@pytest.mark.parametrize("turns", range(6))
def test_messages_that_were_sent_before_a_stall_are_confirmed(
    server: RedisServer, run: Run, turns: int
) -> None:
    async def main() -> None:
        async with Hub() as hub, RedisBridge(hub, server.url, timeout=TIMEOUT) as bridge:
            publishing = asyncio.create_task(bridge.publish("news", MESSAGE))
            await stand_still(turns)
            await publishing
            assert (bridge.state, bridge.stats().reconnects) == (BridgeState.UP, 0)
        async with AsyncRedisPublisher(server.url, timeout=TIMEOUT, replay_seconds=0) as publisher:
            publishing = asyncio.create_task(publisher.broadcast(MESSAGE))
            await stand_still(turns)
            await publishing

    run(main())


@pytest.mark.parametrize("turns", range(6))
def test_subscriptions_that_were_requested_before_a_stall_are_confirmed(
    server: RedisServer, run: Run, turns: int
) -> None:
    async def main() -> None:
        async with Hub() as hub, RedisBridge(hub, server.url, timeout=TIMEOUT) as bridge:
            waiter = bridge.subscribe("news")
            assert waiter is not None
            await stand_still(turns)
            await waiter
            assert (bridge.state, bridge.stats().reconnects) == (BridgeState.UP, 0)

    run(main())


@pytest.mark.parametrize("turns", range(0, 12, 2))
def test_a_stall_during_the_test_of_a_connection_keeps_the_connection(
    server: RedisServer, run: Run, turns: int
) -> None:
    async def main() -> None:
        async with (
            Hub() as hub,
            RedisBridge(hub, server.url, timeout=TIMEOUT, probe_interval=0.05) as bridge,
        ):
            await asyncio.sleep(0.049)
            for _ in range(3):
                await stand_still(turns)
                await asyncio.sleep(0.05)
            assert (bridge.state, bridge.stats().reconnects) == (BridgeState.UP, 0)

    run(main())


@pytest.mark.parametrize("turns", range(0, 16, 3))
def test_a_stall_during_connecting_is_no_failure(server: RedisServer, run: Run, turns: int) -> None:
    async def main() -> None:
        async with Hub() as hub:
            bridge = RedisBridge(hub, server.url, timeout=TIMEOUT)
            starting = asyncio.create_task(bridge.start())
            await stand_still(turns)
            await starting
            assert (bridge.state, bridge.stats().reconnects) == (BridgeState.UP, 0)
            await bridge.stop()

    run(main())


@pytest.mark.parametrize("turns", range(4))
def test_a_stop_sends_queued_messages_in_spite_of_a_stall(
    server: RedisServer, run: Run, turns: int
) -> None:
    async def main() -> None:
        async with Hub() as hub:
            bridge = RedisBridge(hub, server.url, timeout=TIMEOUT)
            await bridge.start()
            for _ in range(5_000):
                hub.publish("news", Message(type=MessageType.EVENT, data="x" * 100))
            stopping = asyncio.create_task(bridge.stop())
            await stand_still(turns)
            await stopping
            assert bridge.stats().published == 5_000

    run(main())


def test_a_server_that_does_not_respond_is_noticed(server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with Hub() as hub, RedisBridge(hub, server.url, timeout=TIMEOUT) as bridge:
            server.pause()
            hub.publish("news", MESSAGE)
            await stand_still(1)
            try:
                await wait_until(lambda: bridge.state == BridgeState.DEGRADED)
            finally:
                server.resume()
            await wait_until(lambda: bridge.state == BridgeState.UP)

    run(main())


PROGRAM = f"""
import asyncio, sys
from wshub_core import Hub, Message
from wshub_redis import RedisBridge

async def main():
    settings = {{"timeout": {TIMEOUT}, "probe_interval": 0.1}}
    async with Hub() as hub, RedisBridge(hub, sys.argv[1], **settings) as bridge:
        async def publish():
            while True:
                hub.publish("news", Message(type="event", data="x"))
                await asyncio.sleep(0.001)
        publishing = asyncio.create_task(publish())
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        publishing.cancel()
        await bridge.publish("news", Message(type="event"))
        print(bridge.state, bridge.stats().reconnects, bridge.stats().lost, flush=True)

asyncio.run(main())
"""


async def test_a_process_that_was_suspended_keeps_its_connections(
    server: RedisServer,
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, server.url, stdin=-1, stdout=-1
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        for _ in range(8):
            os.kill(process.pid, signal.SIGSTOP)
            await asyncio.sleep(TIMEOUT * 1.5)
            os.kill(process.pid, signal.SIGCONT)
            await asyncio.sleep(0.05)
        process.stdin.write(b"\n")
        assert await process.stdout.readline() == b"up 0 0\n"
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
