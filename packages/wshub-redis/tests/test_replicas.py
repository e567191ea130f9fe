"""Replicas: they accept messages that never reach their primary, so the bridge leaves them."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from fleet import wait_until
from redis.asyncio import RedisCluster
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ResponseError
from redis_servers import RedisServer, find_free_port, run_sentinel, run_server
from tcp_proxy import run_proxy

from wshub_core import BridgeState, BridgeUnavailableError, Hub, Message, MessageType
from wshub_core.testing import connect
from wshub_redis import AsyncRedisPublisher, RedisBridge, RedisPublisher

MESSAGE = Message(type=MessageType.EVENT, data="x")

QUICK: dict[str, Any] = {"timeout": 1.0, "probe_interval": 0.2}


@pytest.fixture
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary, and a server that can replace it."""
    with run_server() as first, run_server() as second:
        yield first, second


def follow(server: RedisServer, primary: RedisServer | None) -> None:
    """Make a server a replica, or with None a primary."""
    with server.client() as client:
        if primary is None:
            client.execute_command("REPLICAOF", "NO", "ONE")
        else:
            client.execute_command("REPLICAOF", "127.0.0.1", primary.port)


async def test_a_bridge_is_not_started_on_a_replica(
    pair: tuple[RedisServer, RedisServer],
) -> None:
    first, second = pair
    follow(second, first)
    async with Hub() as hub:
        with pytest.raises(BridgeUnavailableError, match="is a replica and cannot publish"):
            await RedisBridge(hub, second.url).start()
    with pytest.raises(BridgeUnavailableError, match="is a replica and cannot publish"):
        async with AsyncRedisPublisher(second.url):
            pass
    with (
        RedisPublisher(second.url) as publisher,
        pytest.raises(BridgeUnavailableError, match="is a replica and cannot publish") as caught,
    ):
        await asyncio.to_thread(publisher.broadcast, MESSAGE)
    assert not caught.value.may_have_arrived


@pytest.mark.parametrize("is_busy", [True, False])
async def test_the_bridge_leaves_a_server_while_it_is_a_replica(
    pair: tuple[RedisServer, RedisServer], is_busy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pair
    told = []
    async with (
        Hub() as here,
        Hub() as there,
        RedisBridge(
            here,
            first.url,
            on_state_change=lambda each: told.append((each.state, each.reason)),
            **QUICK,
        ) as bridge,
        RedisBridge(there, first.url, **QUICK) as other,
    ):
        client = await connect(there)

        async def publish() -> None:
            # A bridge that receives its own messages all the time must notice the change, too.
            while True:
                here.send_event("tick")
                await asyncio.sleep(0.01)

        publishing = asyncio.create_task(publish()) if is_busy else None
        follow(first, second)
        await wait_until(lambda: bridge.state == other.state == BridgeState.DOWN)
        assert "is a replica and cannot publish" in bridge.reason
        assert bridge.reason in caplog.text
        follow(first, None)
        await wait_until(lambda: bridge.state == other.state == BridgeState.UP)
        assert bridge.reason == ""
        if publishing is not None:
            publishing.cancel()
        await bridge.broadcast(Message(type=MessageType.EVENT, data="end"))
        while (await client.receive()).data != "end":
            pass
    # Each attempt found the replica. Only the changes are reported, first one direction.
    states = [state for state, _ in told]
    assert states == [BridgeState.DEGRADED, BridgeState.DOWN, BridgeState.DEGRADED, BridgeState.UP]


async def test_the_bridge_follows_an_address_to_the_new_primary(
    pair: tuple[RedisServer, RedisServer],
) -> None:
    first, second = pair
    # As if a DNS entry has changed: the old server continues as a replica of the new one.
    async with (
        run_proxy(first.port) as proxy,
        Hub() as here,
        Hub() as there,
        RedisBridge(here, proxy.url, **QUICK) as bridge,
        RedisBridge(there, proxy.url, **QUICK) as other,
    ):
        client = await connect(there)
        follow(first, second)
        await wait_until(lambda: bridge.state == other.state == BridgeState.DOWN)
        proxy.target = second.port
        await wait_until(lambda: bridge.state == other.state == BridgeState.UP)
        await bridge.broadcast(MESSAGE)
        assert (await client.receive()).data == "x"
        with second.client() as second_client:
            assert second_client.pubsub_numsub("ws:broadcast") == [(b"ws:broadcast", 2)]


async def test_the_bridge_follows_a_planned_failover_of_sentinel(
    pair: tuple[RedisServer, RedisServer],
) -> None:
    first, second = pair
    follow(second, first)
    with run_sentinel(first, "main") as watcher:

        def begin_failover() -> bool:
            with watcher.client() as client:
                try:
                    client.execute_command("SENTINEL", "FAILOVER", "main")
                except ResponseError:
                    return False  # it does not know enough of the replica yet
                return True

        def has_failed_over() -> bool:
            with watcher.client() as client:
                # Not by the method of the client: it raises a TypeError in redis-py 6.4.0.
                address = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "main")
                return bool(address[1] == second.port)

        def knows_replica() -> bool:
            with watcher.client() as client:
                return bool(client.info("sentinel")["master0"]["slaves"])

        await wait_until(knows_replica)
        sentinel = Sentinel([("127.0.0.1", watcher.port)])
        primary = sentinel.master_for("main")
        async with (
            Hub() as here,
            Hub() as there,
            RedisBridge(here, primary, **QUICK) as bridge,
            RedisBridge(there, primary, **QUICK) as other,
        ):
            client = await connect(there)
            await wait_until(begin_failover)
            await wait_until(has_failed_over)

            def is_moved() -> bool:
                with second.client() as second_client:
                    return bool(second_client.pubsub_numsub("ws:broadcast")[0][1] == 2)

            await wait_until(is_moved)
            await wait_until(lambda: bridge.state == other.state == BridgeState.UP)
            await bridge.broadcast(MESSAGE)
            assert (await client.receive()).data == "x"
        await primary.aclose()
        for each in sentinel.sentinels:
            await each.aclose()


@pytest.fixture
async def cluster_pair() -> AsyncIterator[tuple[RedisServer, RedisServer]]:
    """A cluster with one primary and its replica."""
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--cluster-port"]
    buses = [str(find_free_port()) for _ in range(2)]
    with (
        run_server(*options, buses[0]) as old,
        run_server(*options, buses[1]) as new,
        old.client() as old_client,
        new.client() as new_client,
    ):
        old_client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        new_client.execute_command("CLUSTER", "MEET", "127.0.0.1", old.port, buses[0])
        old_id = old_client.execute_command("CLUSTER", "MYID")

        def is_replica() -> bool:
            with contextlib.suppress(ResponseError):
                new_client.execute_command("CLUSTER", "REPLICATE", old_id)
            state = old_client.execute_command("CLUSTER", "INFO")
            info = new_client.info("replication")
            return info.get("master_link_status") == "up" and b"cluster_state:ok" in state

        await wait_until(is_replica)
        yield old, new


@pytest.mark.parametrize("sharded", [False, True])
async def test_a_cluster_node_that_becomes_a_replica_causes_a_short_interruption_at_most(
    cluster_pair: tuple[RedisServer, RedisServer], sharded: bool
) -> None:
    old, new = cluster_pair
    with old.client() as old_client, new.client() as new_client:

        def has_failed_over() -> bool:
            return bool(old_client.role()[0] == b"slave")

        async with (
            RedisCluster(host="127.0.0.1", port=old.port) as cluster,
            Hub() as here,
            Hub() as there,
            RedisBridge(here, cluster, sharded=sharded, **QUICK) as bridge,
            RedisBridge(there, cluster, sharded=sharded, **QUICK) as other,
        ):
            client = await connect(there)
            new_client.execute_command("CLUSTER", "FAILOVER")
            await wait_until(has_failed_over)
            if sharded:
                # The old node ends its subscriptions, since the slots have moved.
                await wait_until(lambda: bridge.stats().reconnects * other.stats().reconnects > 0)
                await wait_until(lambda: bridge.state == other.state == BridgeState.UP)
            # Otherwise the connections continue, for longer than the interval of the role check.
            numbers = list(range(100))
            for number in numbers:
                await bridge.broadcast(Message(type=MessageType.EVENT, data=number))
                await asyncio.sleep(0.005)
            assert [(await client.receive()).data for _ in numbers] == numbers
            if not sharded:
                assert bridge.stats().reconnects == other.stats().reconnects == 0
            # Messages of go-ws have no number. They arrive once, too.
            publish = new_client.spublish if sharded else new_client.publish
            for number in numbers:
                publish("ws:broadcast", b'{"message":{"type":"event","data":%d}}' % number)
            assert [(await client.receive()).data for _ in numbers] == numbers


async def test_a_server_that_does_not_know_hello_is_accepted(
    pair: tuple[RedisServer, RedisServer],
) -> None:
    first, _ = pair
    async with run_proxy(first.port) as proxy:
        # As before Redis 6: the proxy replaces the reply to HELLO, alone or among other replies.
        answer = re.compile(rb"\*14\r\n\$6\r\nserver.*?\*0\r\n", re.DOTALL)
        proxy.edit = lambda data: answer.sub(b"-ERR unknown command 'HELLO'\r\n", data)
        async with Hub() as hub, RedisBridge(hub, proxy.url, **QUICK) as bridge:
            await asyncio.sleep(QUICK["probe_interval"] * 3)
            await bridge.broadcast(MESSAGE)
            assert (bridge.state, bridge.stats().reconnects) == (BridgeState.UP, 0)
            assert bridge.stats().lost == 0


async def test_publishers_without_a_hub_leave_a_server_that_becomes_a_replica(
    pair: tuple[RedisServer, RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wshub_redis.async_publisher.ROLE_CHECK_SECONDS", 0.1)
    monkeypatch.setattr("wshub_redis.redis_py.blocking.ROLE_CHECK_SECONDS", 0.1)
    first, second = pair
    async with (
        run_proxy(first.port) as proxy,
        Hub() as hub,
        RedisBridge(hub, second.url),
        AsyncRedisPublisher(proxy.url, replay_seconds=0) as publisher,
    ):
        client = await connect(hub)
        with RedisPublisher(proxy.url) as blocking:
            await asyncio.to_thread(blocking.send_event, "nobody is there")
            follow(first, second)
            await assert_refused(lambda: publisher.send_event("lost"))
            await assert_refused(lambda: asyncio.to_thread(blocking.send_event, "lost"))
            proxy.target = second.port
            await asyncio.to_thread(blocking.send_event, "one")
            assert (await client.receive()).data["event"] == "one"
        await retry(lambda: publisher.send_event("two"))
        assert (await client.receive()).data["event"] == "two"


async def assert_refused(send: Callable[[], Awaitable[None]]) -> None:
    """Send until the publisher notices that the server is a replica."""
    refusal = ""
    async with asyncio.timeout(40):
        while not refusal:
            try:
                await send()
                await asyncio.sleep(0.02)
            except BridgeUnavailableError as exc:
                refusal = str(exc)
    assert "is a replica" in refusal


async def retry(send: Callable[[], Awaitable[None]]) -> None:
    """Send until the message is confirmed."""
    async with asyncio.timeout(40):
        while True:
            with contextlib.suppress(BridgeUnavailableError):
                return await send()
            await asyncio.sleep(0.02)
