"""Races: events at the same moment, or in an unlucky order."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fleet import wait_until
from redis_servers import RedisServer, run_server
from tcp_proxy import run_proxy

from wshub_core import BridgeState, BridgeUnavailableError, Hub, Message, MessageType
from wshub_core.logs import RECORDS_PER_PERIOD
from wshub_core.testing import connect
from wshub_redis import AsyncRedisPublisher, PublisherOpenError, RedisBridge, RedisPublisher
from wshub_redis.connection import cancel_task
from wshub_redis.listener import Listener
from wshub_redis.redis_py.servers import find_server
from wshub_redis.stats import Counters

MESSAGE = Message(type=MessageType.EVENT, data="x" * 200)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@pytest.mark.parametrize("turns", range(8))
async def test_a_bridge_can_be_stopped_while_its_connections_are_lost(
    server: RedisServer, turns: int
) -> None:
    async with run_proxy(server.port) as proxy, Hub() as hub:
        for _ in range(3):
            bridge = RedisBridge(hub, proxy.url)
            await bridge.start()
            proxy.close_connections()
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await bridge.stop()
            assert bridge.state == BridgeState.DOWN


async def test_a_cancelled_stop_leaves_no_task(server: RedisServer) -> None:
    async with Hub() as hub:
        before = asyncio.all_tasks()
        bridge = RedisBridge(hub, server.url)
        await bridge.start()
        server.pause()
        hub.publish("news", MESSAGE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await bridge.stop()
        assert asyncio.all_tasks() == before
        assert bridge.state == BridgeState.DOWN
        assert bridge.stats().lost == 1
        server.resume()
        async with bridge:
            await bridge.publish("news", MESSAGE)


async def test_a_stop_ends_all_waits_for_the_bridge(server: RedisServer) -> None:
    async with Hub() as hub:
        bridge = RedisBridge(hub, server.url, timeout=0.5, max_queue_bytes=100_000)
        await bridge.start()
        server.pause()
        for _ in range(300):
            hub.publish("news", MESSAGE)
        draining = asyncio.create_task(hub.drain())
        publishing = asyncio.create_task(bridge.publish("news", MESSAGE))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            # Two stops at once, as by a signal handler and at the end of a block.
            await asyncio.gather(bridge.stop(), bridge.stop())
            await draining
            with pytest.raises(BridgeUnavailableError):
                await publishing
        stats = bridge.stats()
        assert stats.published + stats.lost == 301
        server.resume()


async def test_a_publisher_sends_queued_messages_before_it_closes(server: RedisServer) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url):
        client = await connect(hub)
        async with AsyncRedisPublisher(server.url) as publisher:
            last = asyncio.create_task(publisher.send_event("last"))
            await asyncio.sleep(0)
            with pytest.raises(PublisherOpenError):
                await publisher.__aenter__()
        await last
        assert (await client.receive()).data["event"] == "last"


async def test_a_publisher_closes_after_the_timeout_if_the_server_does_not_respond(
    server: RedisServer,
) -> None:
    async with AsyncRedisPublisher(server.url, timeout=0.3) as publisher:
        server.pause()
        last = asyncio.create_task(publisher.send_event("last"))
        await asyncio.sleep(0.01)
    with pytest.raises(BridgeUnavailableError) as caught:
        await last
    assert caught.value.may_have_arrived
    server.resume()


async def test_threads_that_start_at_the_same_moment_keep_the_order(server: RedisServer) -> None:
    interval = sys.getswitchinterval()
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(8) as threads:
                for _ in range(50):
                    publisher = RedisPublisher(server.url)
                    barrier = threading.Barrier(8)

                    def publish(publisher: RedisPublisher, barrier: threading.Barrier) -> None:
                        barrier.wait()
                        publisher.send_event("x")

                    loop = asyncio.get_running_loop()
                    await asyncio.gather(
                        *(
                            loop.run_in_executor(threads, publish, publisher, barrier)
                            for _ in range(8)
                        )
                    )
                    publisher.close()
        finally:
            sys.setswitchinterval(interval)
        await wait_until(lambda: bridge.stats().received == 400)
        assert bridge.stats().duplicates == 0


async def test_a_refused_channel_does_not_affect_other_channels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = (
        "user hub on >secret resetchannels &ws:broadcast &ws:probe:* &ws:channel:public* "
        "+publish +subscribe +unsubscribe +@connection\n"
    )
    with run_server(config=config) as server:
        options = {"username": "hub", "password": "secret"}
        async with Hub() as here, Hub() as there, RedisBridge(here, server.url) as bridge:
            first = await connect(there)
            first.subscribe("public:1")
            first.subscribe("private")
            await first.sync()
            async with RedisBridge(there, server.url, **options) as guarded:  # type: ignore[arg-type]
                second = await connect(there)
                for frame_id, channel in enumerate(["private:2", "public:2", "private:3"]):
                    frame = {"type": "subscribe", "channel": channel, "id": frame_id}
                    second.send(str(frame).replace("'", '"').encode())
                # The hub confirms only subscriptions that Redis has confirmed.
                reply = await second.receive()
                assert (reply.type, reply.channel) == ("subscribed", "public:2")
                await bridge.publish("public:1", MESSAGE)
                await bridge.publish("public:2", MESSAGE)
                assert (await first.receive()).channel == "public:1"
                assert (await second.receive()).channel == "public:2"
                # Clients can cause any number of refusals.
                for number in range(50):
                    guarded.subscribe(f"private:x{number}")
                waiter = guarded.subscribe("public:3")
                assert waiter is not None
                await waiter
                assert guarded.state == BridgeState.UP
                assert guarded.stats().reconnects == 0
    refusals = [each for each in caplog.records if " refuses " in each.getMessage()]
    assert len(refusals) == RECORDS_PER_PERIOD


async def test_a_waiter_of_a_moved_channel_waits_for_the_new_listener(
    server: RedisServer,
) -> None:
    def make(url: str) -> Listener:
        async def probe() -> bool:
            return True

        return Listener(
            find_server(url, {}),
            1.0,
            lambda: None,
            Counters(),
            is_sharded=False,
            wanted=tuple,
            pattern=b"ws:channel:*",
            essential=(),
            on_message=lambda channel, data: None,
            probe_interval=9.0,
            publish_probe=probe,
            on_resubscribed=lambda: None,
        )

    gone, new = make("redis://127.0.0.1:1"), make(server.url)
    gone.start()
    await new.open()
    waiter = gone.subscribe(b"ws:channel:x")
    assert waiter is not None
    server.pause()
    gone.move_to(b"ws:channel:x", new)
    await gone.close()
    assert not waiter.done()
    server.resume()
    async with asyncio.timeout(5):
        await waiter
    assert new.subscribe(b"ws:channel:x") is None
    await new.close()


async def test_a_task_that_swallows_cancellations_is_cancelled_again() -> None:
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancel_task(task)
    assert task.cancelled()
