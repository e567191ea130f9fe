"""Outages of Redis: the table of guarantees, checked message by message."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import pytest
import redis
from fleet import CHANNEL, assert_within, now, run_fleet, wait_until
from redis_servers import RedisServer, run_server
from tcp_proxy import run_proxy

from wshub_core import BridgeState, BridgeUnavailableError, Message, MessageType

NOTHING = [[set[int]()] * 3] * 3


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


async def test_without_an_outage_nothing_is_lost(server: RedisServer) -> None:
    async with run_fleet(lambda _: server.url) as fleet:
        async with fleet.load():
            await asyncio.sleep(0.5)
        assert await fleet.account() == NOTHING
        for member in fleet.members:
            stats = member.bridge.stats()
            assert stats.published == len(member.published) + 1
            others = sum(len(each.published) + 1 for each in fleet.members) - stats.published
            assert (stats.received, stats.lost, stats.reconnects) == (others, 0, 0)


async def test_lost_publishing_connections_lose_no_message(server: RedisServer) -> None:
    async with run_fleet(lambda _: server.url) as fleet:
        async with fleet.load():
            for number in range(5):
                kill_clients(server, "normal")
                await fleet.wait_reconnects(number + 1)
                await fleet.wait_recovered()
        assert await fleet.account() == NOTHING


async def test_lost_subscribed_connections_miss_the_messages_of_the_gap_only(
    server: RedisServer,
) -> None:
    async with run_fleet(lambda _: server.url) as fleet:
        async with fleet.load():
            begin = now()
            kill_clients(server, "pubsub")
            # Each bridge reconnects after a random time, so they need not be degraded together.
            await fleet.wait_seen(BridgeState.DEGRADED)
            end = await fleet.wait_recovered()
        assert_within(fleet, await fleet.account(), begin, end)
        states = [state for _, state in fleet.members[0].changes]
        assert states == [BridgeState.DEGRADED, BridgeState.UP]


async def test_a_restart_of_the_server_loses_messages_of_the_outage_only(
    server: RedisServer,
) -> None:
    async with run_fleet(lambda _: server.url) as fleet:
        async with fleet.load():
            begin = now()
            server.kill()
            await fleet.wait_state(BridgeState.DOWN)
            await asyncio.sleep(0.3)
            server.start()
            end = await fleet.wait_recovered()
        missing = await fleet.account()
        assert_within(fleet, missing, begin, end)
        # The messages that were published during the outage were queued, and none was lost.
        assert all(member.bridge.stats().lost == 0 for member in fleet.members)


async def test_without_replay_the_messages_of_an_outage_are_lost_and_counted(
    server: RedisServer,
) -> None:
    async with run_fleet(lambda _: server.url, replay_seconds=0) as fleet:
        async with fleet.load():
            begin = now()
            server.kill()
            await fleet.wait_state(BridgeState.DOWN)
            await wait_until(lambda: all(each.bridge.stats().lost > 10 for each in fleet.members))
            server.start()
            end = await fleet.wait_recovered()
        missing = await fleet.account()
        assert_within(fleet, missing, begin, end)
        for sender, member in enumerate(fleet.members):
            lost = member.bridge.stats().lost
            # The other missing messages were lost because listeners were still reconnecting.
            for receiver in range(3):
                if receiver != sender:
                    assert lost <= len(missing[receiver][sender]) + 5


async def test_a_short_pause_of_the_server_loses_nothing(server: RedisServer) -> None:
    async with run_fleet(lambda _: server.url) as fleet:
        async with fleet.load():
            server.pause()
            await asyncio.sleep(0.5)
            server.resume()
        assert await fleet.account() == NOTHING
        assert all(member.bridge.stats().reconnects == 0 for member in fleet.members)


async def test_the_bridge_reconnects_to_a_server_that_did_not_respond(server: RedisServer) -> None:
    async with run_fleet(lambda _: server.url) as fleet:
        async with fleet.load():
            begin = now()
            sleep = threading.Thread(target=debug_sleep, args=(server, 3), daemon=True)
            sleep.start()
            await fleet.wait_state(BridgeState.DOWN)
            await asyncio.to_thread(sleep.join, 30)
            end = await fleet.wait_recovered()
        assert_within(fleet, await fleet.account(), begin, end)


async def test_a_listener_above_the_output_buffer_limit_reconnects() -> None:
    with run_server("--client-output-buffer-limit", "pubsub 64kb 0 0") as server:
        async with run_fleet(lambda _: server.url) as fleet:
            burst = threading.Thread(target=publish_burst, args=(server,), daemon=True)
            burst.start()
            time.sleep(1)  # noqa: ASYNC251 - the hubs hear nothing, as if they were too slow
            await asyncio.to_thread(burst.join, 30)
            await fleet.wait_reconnects(1)
            await fleet.wait_recovered()
            for member in fleet.members:
                member.client.messages.clear()
            async with fleet.load():
                pass
            assert await fleet.account() == NOTHING


async def test_an_open_connection_without_messages_is_replaced(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_proxy(server.port) as proxy, run_fleet(lambda _: proxy.url) as fleet:
        is_cut_off = True

        def edit(data: bytes) -> bytes:
            # The connection seems healthy: pings are answered, and publishing is confirmed.
            if is_cut_off and b"message" in data:
                return b"*2\r\n$4\r\npong\r\n$0\r\n\r\n" * data.count(b"pong")
            return data

        async with fleet.load():
            begin = now()
            proxy.edit = edit
            await fleet.wait_state(BridgeState.DEGRADED)
            is_cut_off = False
            end = await fleet.wait_recovered()
        missing = await fleet.account()
        assert_within(fleet, missing, begin, end)
        assert missing[0][1]
        assert "does not pass on published messages" in caplog.text


async def test_a_half_open_connection_is_replaced(server: RedisServer) -> None:
    async with run_proxy(server.port) as proxy, run_fleet(lambda _: proxy.url) as fleet:
        # No hub publishes: the test of silent connections must notice the fault.
        proxy.edit = lambda _: b""
        await fleet.wait_state(BridgeState.DOWN)
        proxy.edit = bytes
        await fleet.wait_recovered()
        async with fleet.load():
            pass
        assert await fleet.account() == NOTHING


async def test_a_long_outage_does_not_flood_the_log(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_fleet(lambda _: server.url, replay_seconds=0.2) as fleet:
        async with fleet.load():
            server.kill()
            await fleet.wait_state(BridgeState.DOWN)
            await wait_until(lambda: all(each.bridge.stats().lost > 50 for each in fleet.members))
            server.start()
            await fleet.wait_recovered()
        await fleet.collect()
        lost = [member.bridge.stats().lost for member in fleet.members]
    about = [each.getMessage() for each in caplog.records if "other hubs" in each.getMessage()]
    for number in lost:
        assert f"number of lost messages for other hubs: {number}" in about
    # Each bridge logs one record at the beginning and one at the end.
    assert len(about) == 6
    # redis-py logs nothing for each failed attempt.
    others = {each.name for each in caplog.records if each.name.partition(".")[0] != "wshub"}
    assert others <= {"asyncio"}


async def test_publishing_on_the_hub_does_not_wait_for_redis(server: RedisServer) -> None:
    async with run_fleet(lambda _: server.url, replay_seconds=1.0) as fleet:
        server.kill()
        await fleet.wait_state(BridgeState.DOWN)
        here = fleet.members[0]
        begin = now()
        for number in range(1_000):
            here.hub.publish(CHANNEL, Message(type=MessageType.EVENT, data=number))
        await here.hub.drain()
        assert now() - begin < 1
        await here.client.sync()
        assert [message.data for message in here.client.messages] == list(range(1_000))
        # A caller that waits gets the error when the message is lost.
        with pytest.raises(BridgeUnavailableError, match="no connection for 1 s") as caught:
            await here.bridge.publish(CHANNEL, Message(type=MessageType.EVENT, data="sure"))
        assert not caught.value.may_have_arrived
        assert here.client.messages[-1].data == "sure"
        assert here.bridge.stats().lost == 1_001


async def test_a_subscription_during_an_outage_is_confirmed_after_it(server: RedisServer) -> None:
    async with run_fleet(lambda _: server.url) as fleet:
        server.kill()
        await fleet.wait_state(BridgeState.DOWN)
        here, there, _ = fleet.members
        here.client.send(b'{"type":"subscribe","channel":"late","id":1}')
        await here.client.sync()
        assert not here.client.messages
        here.hub.publish("late", Message(type=MessageType.EVENT, data="local"))
        assert (await here.client.receive()).data == "local"
        server.start()
        reply = await here.client.receive()
        assert (reply.type, reply.channel) == (MessageType.SUBSCRIBED, "late")
        await fleet.wait_recovered()
        await there.bridge.publish("late", Message(type=MessageType.EVENT, data="remote"))
        assert (await here.client.receive()).data == "remote"


async def test_a_full_queue_loses_new_messages_and_counts_them(server: RedisServer) -> None:
    async with run_fleet(lambda _: server.url, max_queue_bytes=10_000) as fleet:
        here = fleet.members[0]
        server.kill()
        await fleet.wait_state(BridgeState.DOWN)
        for _ in range(100):
            here.hub.publish(CHANNEL, Message(type=MessageType.EVENT, data="x" * 1_000))
        assert 85 < here.bridge.stats().lost < 95
        with pytest.raises(BridgeUnavailableError, match="the publish queue is full"):
            await here.bridge.broadcast(Message(type=MessageType.EVENT, data="x" * 1_000))


async def test_drain_slows_down_a_publisher_before_messages_are_lost(server: RedisServer) -> None:
    async with run_fleet(lambda _: server.url, max_queue_bytes=100_000) as fleet:
        here = fleet.members[0]
        for _ in range(2_000):
            here.publish(0)
            await here.hub.drain()
        assert await fleet.account() == NOTHING


def kill_clients(server: RedisServer, kind: str) -> None:
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def debug_sleep(server: RedisServer, seconds: int) -> None:
    with server.client() as client:
        client.connection_pool.connection_kwargs["socket_timeout"] = None
        client.execute_command("DEBUG", "SLEEP", seconds)


def publish_burst(server: RedisServer) -> None:
    envelope = {"sourceId": "burst", "message": {"type": "event", "data": "x" * 30_000}}
    with redis.Redis(port=server.port) as client:
        pipeline = client.pipeline(transaction=False)
        for _ in range(2_000):
            pipeline.publish(f"ws:channel:{CHANNEL}", json.dumps(envelope))
        pipeline.execute()
