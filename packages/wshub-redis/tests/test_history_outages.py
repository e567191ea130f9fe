"""Shared histories in outages: nothing is lost silently, and nothing arrives twice."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator

import pytest
from fleet import wait_until
from history_hubs import HISTORY, event, open_hub, open_reader
from redis_servers import RedisServer, run_server
from tcp_proxy import TCPProxy, run_proxy

from wshub_core import BridgeState, BridgeUnavailableError, Hub, HubConfig
from wshub_redis import AsyncRedisPublisher, RedisBridge


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[TCPProxy]:
    async with run_proxy(server.port) as proxy:
        yield proxy


SCRIPT_REPLY = re.compile(rb":\d+\r\n")
"""The reply to a call of the script."""


async def test_messages_of_a_short_outage_wait_and_are_stored_in_order(
    server: RedisServer, proxy: TCPProxy
) -> None:
    async with open_hub(proxy.url) as (hub, bridge), open_hub(server.url) as (other, _):
        reader, far = await open_reader(hub), await open_reader(other)
        hub.publish("log", event("before"))
        assert await reader.receive(1) == [("before", 1)]
        proxy.is_refusing = True
        proxy.close_connections()
        await wait_until(lambda: bridge.state == BridgeState.DOWN)
        confirmed = asyncio.create_task(bridge.publish("log", event(0)))
        await asyncio.sleep(0)
        for number in range(1, 50):
            hub.publish("log", event(number))
        other.publish("log", event("other"))
        assert await far.receive(2) == [("before", 1), ("other", 2)]
        proxy.is_refusing = False
        await confirmed
        expected = [("other", 2), *((number, number + 3) for number in range(50))]
        assert await reader.receive(51) == expected
        assert await far.receive(50) == expected[1:]
        assert bridge.stats().lost == 0


async def test_messages_of_a_long_outage_reach_the_clients_of_this_hub_without_offset(
    server: RedisServer, proxy: TCPProxy
) -> None:
    async with (
        open_hub(proxy.url, replay_seconds=0.3) as (hub, bridge),
        open_hub(server.url) as (other, other_bridge),
    ):
        reader, far = await open_reader(hub), await open_reader(other)
        await bridge.publish("log", event("before"))
        assert await reader.receive(1) == [("before", 1)]
        proxy.is_refusing = True
        proxy.close_connections()
        await wait_until(lambda: bridge.state == BridgeState.DOWN)
        with pytest.raises(BridgeUnavailableError, match="no connection for") as caught:
            await bridge.publish("log", event(0))
        assert not caught.value.may_have_arrived
        for number in range(1, 5):
            hub.publish("log", event(number))
        assert await reader.receive(5) == [(number, 0) for number in range(5)]
        assert bridge.stats().lost == 5
        await other_bridge.publish("log", event("other"))
        proxy.is_refusing = False
        # The client learns of the message of the other hub after the reconnect.
        assert await reader.receive(1) == [("other", 2)]
        assert await far.receive(2) == [("before", 1), ("other", 2)]


async def test_without_replay_messages_of_an_outage_arrive_at_once(
    server: RedisServer, proxy: TCPProxy
) -> None:
    async with open_hub(proxy.url, replay_seconds=0) as (hub, bridge):
        reader = await open_reader(hub)
        proxy.is_refusing = True
        proxy.close_connections()
        await wait_until(lambda: bridge.state == BridgeState.DOWN)
        hub.publish("log", event(1))
        await reader.client.sync()
        assert await reader.receive(1) == [(1, 0)]


async def test_messages_that_do_not_fit_into_the_queue_arrive_at_once(
    server: RedisServer, proxy: TCPProxy
) -> None:
    async with open_hub(proxy.url, max_queue_bytes=2_000, replay_seconds=30) as (hub, bridge):
        reader = await open_reader(hub)
        proxy.is_refusing = True
        proxy.close_connections()
        await wait_until(lambda: bridge.state == BridgeState.DOWN)
        for number in range(10):
            hub.publish("log", event([number, "x" * 500]))
        await reader.client.sync()
        count = len(reader.client.messages)
        assert 5 < count < 10
        received = await reader.receive(count)
        assert [(data[0], offset) for data, offset in received] == [
            (number, 0) for number in range(10 - count, 10)
        ]
        proxy.is_refusing = False
        received = await reader.receive(10 - count)
        assert [(data[0], offset) for data, offset in received] == [
            (number, number + 1) for number in range(10 - count)
        ]


@pytest.mark.parametrize("is_stored", [True, False])
async def test_unconfirmed_messages_wait_for_any_time_and_are_stored_once(
    server: RedisServer, proxy: TCPProxy, is_stored: bool
) -> None:
    async with (
        open_hub(proxy.url, replay_seconds=0.3) as (hub, bridge),
        open_hub(server.url) as (other, other_bridge),
    ):
        reader, far = await open_reader(hub), await open_reader(other)
        await bridge.publish("log", event("before"))
        assert await reader.receive(1) == [("before", 1)]
        if is_stored:
            # The server gets the messages, and its replies are lost.
            proxy.edit = lambda data: SCRIPT_REPLY.sub(b"", data)
        else:
            server.pause()
        publishing = asyncio.create_task(bridge.publish("log", event(0)))
        await asyncio.sleep(0)
        for number in range(1, 20):
            hub.publish("log", event(number))
        if is_stored:
            # Messages come back all the same.
            assert await reader.receive(20) == [(n, n + 2) for n in range(20)]
        await wait_until(lambda: bridge.stats().reconnects > 0 or not is_stored)
        proxy.is_refusing = True
        proxy.close_connections()
        proxy.edit = bytes
        if not is_stored:
            # The server never reads what the connections had sent.
            server.restart()
            await asyncio.to_thread(server.wait_ready)
        with pytest.raises(BridgeUnavailableError) as caught:
            await publishing
        assert caught.value.may_have_arrived
        assert bridge.stats().lost == 0
        # They wait for longer than replay_seconds.
        await wait_until(lambda: other_bridge.state == BridgeState.UP)
        proxy.is_refusing = False
        await wait_until(lambda: bridge.state == BridgeState.UP)
        await bridge.publish("log", event("after"))
        assert bridge.stats().lost == 0
        received = [data for data, offset in await reader.receive_until("after") if offset]
        assert received == ["after"] if is_stored else [*range(20), "after"]
        page = await other.history("log")
        expected = [*range(20), "after"]
        assert [each.data for each in page.messages] == (["before"] * is_stored) + expected
        far_data = [data for data, offset in await far.receive_until("after") if offset]
        assert far_data == ["before", *expected]


async def test_many_lost_connections_lose_and_repeat_nothing(server: RedisServer) -> None:
    async with (
        open_hub(server.url, replay_seconds=30) as (hub, bridge),
        open_hub(server.url, replay_seconds=30) as (other, other_bridge),
    ):
        reader, far = await open_reader(hub), await open_reader(other)
        is_over = asyncio.Event()
        counts = {}

        async def publish(name: str, at: Hub) -> None:
            counts[name] = 0
            while not is_over.is_set():
                at.publish("log", event([name, counts[name]]))
                counts[name] += 1
                await asyncio.sleep(0.001)

        async with asyncio.TaskGroup() as group:
            group.create_task(publish("here", hub))
            group.create_task(publish("there", other))
            with server.client() as client:
                for number in range(12):
                    kind = ("normal", "pubsub")[number % 2]
                    client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                    await asyncio.sleep(0.15)
            is_over.set()
        # Messages of the bridge that is down for longer come behind those of the other one.
        await wait_until(lambda: bridge.state == other_bridge.state == BridgeState.UP)
        await other_bridge.publish("log", event("far end"))
        await bridge.publish("log", event("end"))
        received = await reader.receive_until("end")
        assert received == await far.receive_until("end")
        assert [offset for _, offset in received] == list(range(1, len(received) + 1))
        for name, count in counts.items():
            numbers = [data[1] for data, _ in received if data[0] == name]
            assert numbers == list(range(count))


async def test_a_stopped_bridge_gives_waiting_messages_to_the_clients_of_its_hub(
    server: RedisServer, proxy: TCPProxy
) -> None:
    async with Hub(HubConfig(history=HISTORY)) as hub:
        async with RedisBridge(hub, proxy.url, timeout=1) as bridge:
            reader = await open_reader(hub)
            proxy.is_refusing = True
            proxy.close_connections()
            await wait_until(lambda: bridge.state == BridgeState.DOWN)
            hub.publish("log", event(1))
        assert await reader.receive(1) == [(1, 0)]
        assert bridge.stats().lost == 1
        # The hub goes on with a history of its own.
        hub.publish("log", event(2))
        assert await reader.receive(1) == [(2, 1)]


async def test_a_bridge_that_starts_without_redis_stores_messages_later() -> None:
    with run_server() as server:
        server.kill()
        async with open_hub(server.url, require_redis=False) as (hub, bridge):
            hub.publish("log", event(1))
            server.start()
            await asyncio.to_thread(server.wait_ready)
            await wait_until(lambda: bridge.state == BridgeState.UP)
            await bridge.publish("log", event(2))
            assert [each.data for each in (await hub.history("log")).messages] == [1, 2]


async def test_a_publisher_waits_and_sends_again(server: RedisServer, proxy: TCPProxy) -> None:
    async with (
        open_hub(server.url) as (hub, _),
        AsyncRedisPublisher(proxy.url, timeout=0.5, history=HISTORY) as publisher,
    ):
        reader = await open_reader(hub)
        await publisher.publish("log", event(0))
        proxy.edit = lambda data: SCRIPT_REPLY.sub(b"", data)
        sending = [asyncio.create_task(publisher.publish("log", event(n))) for n in (1, 2, 3)]
        assert await reader.receive(4) == [(n, n + 1) for n in range(4)]
        proxy.edit = bytes
        proxy.close_connections()
        await asyncio.gather(*sending)
        await publisher.publish("log", event(4))
        assert await reader.receive(1) == [(4, 5)]


async def test_messages_for_a_replica_wait_for_the_primary() -> None:
    with run_server() as first, run_server() as second:
        async with open_hub(first.url, replay_seconds=20) as (hub, bridge):
            reader = await open_reader(hub)
            await bridge.publish("log", event(0))
            with first.client() as client:
                client.execute_command("REPLICAOF", "127.0.0.1", second.port)
                for number in range(1, 10):
                    hub.publish("log", event(number))
                await wait_until(lambda: bridge.state == BridgeState.DOWN)
                assert "is a replica" in bridge.reason
                client.execute_command("REPLICAOF", "NO", "ONE")
            with contextlib.suppress(BridgeUnavailableError):
                await bridge.publish("log", event("end"))
            received = [data for data, offset in await reader.receive_until("end") if offset]
            assert received[-10:] == [*range(1, 10), "end"]
            assert bridge.stats().lost == 0
