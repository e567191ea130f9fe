"""Shared histories with Cluster and Sentinel."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from fleet import wait_until
from history_follower import Follower, check
from history_hubs import HISTORY, event, open_hub, open_reader
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel
from redis.crc import key_slot
from redis_servers import RedisServer, run_cluster, run_sentinel, run_server

from wshub_core import BridgeState, Hub
from wshub_redis import AsyncRedisPublisher, RedisPublisher


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    with run_cluster() as servers:
        yield servers


@asynccontextmanager
async def open_cluster(servers: list[RedisServer]) -> AsyncIterator[RedisCluster]:
    nodes = [ClusterNode("127.0.0.1", server.port) for server in servers]
    async with RedisCluster(startup_nodes=nodes) as client:
        yield client


@pytest.mark.parametrize("sharded", [False, True])
async def test_publishers_without_a_hub_reach_the_histories_of_a_cluster(
    cluster: list[RedisServer], sharded: bool
) -> None:
    options: dict[str, Any] = {"prefix": f"p{sharded}", "sharded": sharded}
    channels = [f"log:{number}" for number in range(12)]
    async with open_cluster(cluster) as client, open_hub(client, **options) as (hub, _):
        readers = [await open_reader(hub, channel) for channel in channels]

        def publish() -> None:
            with (
                redis.RedisCluster(host="127.0.0.1", port=cluster[0].port) as sync_client,
                RedisPublisher(sync_client, history=HISTORY, **options) as publisher,
            ):
                for number in range(120):
                    publisher.publish(channels[number % 12], event(number))

        await asyncio.to_thread(publish)
        for number, reader in enumerate(readers):
            expected = [(number + 12 * n, n + 1) for n in range(10)]
            assert await reader.receive(10) == expected
        if not sharded:
            async with AsyncRedisPublisher(
                client, history=HISTORY, prefix=options["prefix"]
            ) as asyncio_publisher:
                for number, channel in enumerate(channels):
                    await asyncio_publisher.publish(channel, event(number))
                for number, reader in enumerate(readers):
                    assert await reader.receive(1) == [(number, 11)]
                # Now: it may come through another node, in front of the others.
                await asyncio_publisher.send_event("all")
            for reader in readers:
                assert (await reader.client.receive()).data["event"] == "all"
    owners = [server for server in cluster if count_keys(server, options["prefix"])]
    assert len(owners) == (3 if sharded else 1)


def count_keys(server: RedisServer, prefix: str) -> int:
    with server.client() as client:
        return len(client.keys(f"{prefix}:*"))


def move_slot_with_keys(
    source: RedisServer, target: RedisServer, others: list[RedisServer], slot: int
) -> None:
    """Move a slot to another node of a cluster, with its keys."""
    with source.client() as client, target.client() as target_client:
        source_id = client.execute_command("CLUSTER", "MYID")
        target_id = target_client.execute_command("CLUSTER", "MYID")
        target_client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        keys = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1_000)
        assert keys
        client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        # The new owner first: the old one then learns of the change at once.
        target_client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    for server in others:
        with server.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)


@pytest.mark.parametrize("sharded", [False, True])
async def test_histories_move_with_their_slot(sharded: bool) -> None:
    with run_cluster() as servers:
        slot = key_slot(b"ws:channel:log" if sharded else b"ws")
        source = servers[3 * slot // 16_384]
        target, other = (server for server in servers if server is not source)
        options: dict[str, Any] = {"sharded": sharded, "replay_seconds": 30}
        async with (
            open_cluster(servers) as client,
            open_hub(client, **options) as (here, bridge),
            open_hub(client, **options) as (there, there_bridge),
        ):
            followers = [Follower("log"), Follower("log")]
            for follower, hub in zip(followers, (here, there), strict=True):
                await follower.connect(hub)
            is_over = asyncio.Event()
            counts = [0, 0]

            async def publish(number: int, hub: Hub) -> None:
                while not is_over.is_set():
                    hub.publish("log", event([number, counts[number]]))
                    counts[number] += 1
                    await asyncio.sleep(0.005)

            async with asyncio.TaskGroup() as group:
                group.create_task(publish(0, here))
                group.create_task(publish(1, there))
                await asyncio.sleep(0.3)
                await asyncio.to_thread(move_slot_with_keys, source, target, [other], slot)
                await asyncio.sleep(1.5)
                is_over.set()
            for number, each in enumerate((bridge, there_bridge)):
                await each.publish("log", event([number, "end"]))

            def have_seen_all() -> bool:
                return all(
                    [number, "end"] in follower.data()
                    for follower in followers
                    for number in (0, 1)
                )

            await wait_until(have_seen_all)
            for follower in followers:
                await follower.disconnect()
            check(followers)
            page = await there.history("log", limit=10_000)
            offsets = [each.offset for each in page.messages]
            assert offsets == list(range(1, page.offset + 1))
            # The new node is another server, so it has begun a new epoch with the same messages.
            for follower in followers:
                segment = follower.segments()[-1]
                assert segment == [
                    (page.epoch, each.offset, each.data) for each in page.messages[-len(segment) :]
                ]
            for number, count in enumerate(counts):
                expected = [*range(count), "end"]
                stored = [each.data[1] for each in page.messages if each.data[0] == number]
                # In order, without those that the nodes refused while the keys moved. They have
                # reached the hub's own clients.
                refused = [data for data in expected if data not in stored]
                assert stored == [data for data in expected if data not in refused]
                assert [data[1] for data in followers[number].unstored()] == refused
                assert (bridge, there_bridge)[number].stats().lost == len(refused)
            assert not count_keys(source, "ws:history")


async def wait_up(*bridges: Any) -> None:
    await wait_until(lambda: all(each.state == BridgeState.UP for each in bridges))


async def test_a_failover_of_sentinel_keeps_the_messages_and_begins_a_new_epoch() -> None:
    with (
        run_server() as old,
        run_server("--replicaof", "127.0.0.1", str(old.port)) as new,
        run_sentinel(old, "main") as watcher,
    ):

        def has_replica() -> bool:
            with watcher.client() as client:
                has_heard = bool(client.info("sentinel")["master0"]["slaves"])
            with new.client() as client:
                return has_heard and client.info("replication")["master_link_status"] == "up"

        await wait_until(has_replica)
        sentinel = Sentinel([("127.0.0.1", watcher.port)])
        primary = sentinel.master_for("main")
        async with (
            open_hub(primary, replay_seconds=30) as (here, bridge),
            open_hub(primary, replay_seconds=30) as (there, there_bridge),
        ):
            readers = [await open_reader(hub) for hub in (here, there)]
            epoch = readers[0].answer["epoch"]
            for number in range(10):
                await bridge.publish("log", event(number))
            for reader in readers:
                await reader.receive(10)
            with old.client() as client:
                assert client.execute_command("WAIT", 1, 10_000) == 1
            old.kill()
            await wait_until(lambda: bridge.state == there_bridge.state == BridgeState.DOWN)
            here.publish("log", event("queued"))
            await wait_up(bridge, there_bridge)
            await there_bridge.publish("log", event("end"))
            for hub, reader in zip((here, there), readers, strict=True):
                assert await reader.receive_new_epoch() != epoch
                # The connection for reads may come back later than the others.
                late = await open_reader(hub, since=10, epoch=epoch)
                while late.answer["reason"] == "unavailable":
                    late = await open_reader(hub, since=10, epoch=epoch)
                assert late.answer["reason"] == "foreign_epoch"
                received = await late.receive(12)
                assert [offset for _, offset in received] == list(range(1, 13))
                assert [data for data, _ in received][:10] == list(range(10))
                assert {data for data, _ in received[10:]} == {"queued", "end"}
            with new.client() as client:
                assert client.xlen("ws:history:{ws}:log") == 12
        await primary.aclose()
        for each in sentinel.sentinels:
            await each.aclose()
