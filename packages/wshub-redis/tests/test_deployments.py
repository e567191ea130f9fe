"""Deployments of Redis: passwords, TLS, Unix sockets, Sentinel, Cluster."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from fleet import CHANNEL, assert_within, now, run_fleet, wait_until
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel
from redis.crc import key_slot
from redis_servers import (
    RedisServer,
    find_free_port,
    move_slot,
    run_cluster,
    run_sentinel,
    run_server,
)
from tcp_proxy import run_proxy

from wshub_core import Bridge, BridgeState, BridgeUnavailableError, Hub, Message, MessageType
from wshub_core.testing import BridgeContract, connect
from wshub_redis import RedisBridge, RedisPublisher
from wshub_redis.redis_py.cluster import ClusterMap


async def assert_joined(url: Any, **options: Any) -> None:
    async with (
        Hub() as here,
        Hub() as there,
        RedisBridge(here, url, **options),
        RedisBridge(there, url, **options),
    ):
        client = await connect(there)
        here.send_event("hello")
        assert (await client.receive()).data["event"] == "hello"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    config = (
        "user default on >pass/word ~* &* +@all\n"
        "user hub on >secret resetchannels &ws:* +publish +subscribe +unsubscribe +@connection\n"
        "user reader on >secret resetchannels &ws:* +@all -publish\n"
    )
    with run_server(config=config, password="pass/word") as server:
        yield server


async def test_a_password_can_be_in_the_url_or_an_option(guarded: RedisServer) -> None:
    await assert_joined(f"redis://:pass%2Fword@127.0.0.1:{guarded.port}")
    await assert_joined(guarded.url, password="pass/word")


async def test_a_user_with_the_documented_rights_is_enough(guarded: RedisServer) -> None:
    await assert_joined(guarded.url, username="hub", password="secret")
    await assert_joined(f"redis://hub:secret@127.0.0.1:{guarded.port}")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "Authentication required"),
        ({"password": "wr0ng"}, "invalid username-password pair"),
        ({"username": "hub", "password": "secret", "prefix": "other"}, "permission"),
    ],
)
async def test_the_start_fails_without_the_password_or_the_rights(
    guarded: RedisServer, options: dict[str, Any], match: str
) -> None:
    async with Hub() as hub:
        with pytest.raises(BridgeUnavailableError, match=f"(?i){match}") as caught:
            await RedisBridge(hub, guarded.url, **options).start()
        assert "wr0ng" not in str(caught.value)
        assert "secret" not in str(caught.value)


async def test_a_refused_message_raises_and_keeps_the_connection(
    guarded: RedisServer,
) -> None:
    async with (
        Hub() as hub,
        RedisBridge(hub, guarded.url, username="reader", password="secret") as bridge,
    ):
        with pytest.raises(BridgeUnavailableError, match="refuses to publish") as caught:
            await bridge.publish("news", Message(type=MessageType.EVENT))
        assert not caught.value.may_have_arrived
        assert bridge.state == BridgeState.UP
        assert bridge.stats().lost == 1


async def test_the_bridge_connects_to_a_unix_socket() -> None:
    with run_server("--unixsocket", "redis.sock") as server:
        await assert_joined(f"unix://{server.path}/redis.sock")


async def test_the_bridge_connects_with_tls_and_checks_the_certificate(tmp_path: Path) -> None:
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out certificate.pem"
    )
    await asyncio.to_thread(
        subprocess.run, command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    certificate = tmp_path / "certificate.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "key.pem")
    # The server from the wheel has no TLS, so a proxy adds it.
    with run_server() as server:
        async with run_proxy(server.port, context) as proxy:
            url = f"rediss://localhost:{proxy.port}"
            await assert_joined(url, ssl_ca_certs=str(certificate))
            async with Hub() as hub:
                with pytest.raises(BridgeUnavailableError, match=r"(?i)certificate"):
                    await RedisBridge(hub, url).start()


async def test_the_bridge_uses_the_settings_of_a_client(guarded: RedisServer) -> None:
    # Settings that other parts of an application need.
    settings = {"password": "pass/word", "decode_responses": True, "protocol": 3}
    async with Redis(port=guarded.port, **settings) as client:  # type: ignore[arg-type]
        await assert_joined(client)
        assert await client.ping()


# Sentinel


async def test_the_bridge_follows_a_failover_of_sentinel() -> None:
    with (
        run_server() as old,
        run_server("--replicaof", "127.0.0.1", str(old.port)) as new,
        run_sentinel(old, "main") as watcher,
    ):
        await wait_for_replica(watcher)
        sentinel = Sentinel([("127.0.0.1", watcher.port)])
        primary = sentinel.master_for("main")
        async with run_fleet(lambda _: primary) as fleet:
            async with fleet.load():
                begin = now()
                old.kill()
                await fleet.wait_state(BridgeState.DOWN)
                end = await fleet.wait_recovered()
            assert_within(fleet, await fleet.account(), begin, end)
            with new.client() as client:
                assert client.role()[0] == b"master"
                assert client.pubsub_numsub(f"ws:channel:{CHANNEL}")[0][1] == 3
        await primary.aclose()
        for each in sentinel.sentinels:
            await each.aclose()


async def wait_for_replica(watcher: RedisServer) -> None:
    def knows_replica() -> bool:
        with watcher.client() as client:
            return bool(client.info("sentinel")["master0"]["slaves"])

    await wait_until(knows_replica)


# Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    with run_cluster() as servers:
        yield servers


@asynccontextmanager
async def open_cluster(servers: list[RedisServer]) -> AsyncIterator[RedisCluster]:
    nodes = [ClusterNode("127.0.0.1", server.port) for server in servers]
    async with RedisCluster(startup_nodes=nodes) as client:
        yield client


class ClusterContract(BridgeContract):
    sharded = False

    @pytest.fixture(autouse=True)
    def use(self, cluster: list[RedisServer]) -> None:
        self.servers = cluster

    def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
        return self._open_bridge(hub)

    @asynccontextmanager
    async def _open_bridge(self, hub: Hub) -> AsyncIterator[Bridge]:
        async with (
            open_cluster(self.servers) as client,
            RedisBridge(hub, client, sharded=self.sharded) as bridge,
        ):
            yield bridge


class TestCluster(ClusterContract):
    """Ordinary publishing, which reaches all nodes."""


class TestShardedCluster(ClusterContract):
    """Sharded publishing, a connection to each node."""

    sharded = True
    can_subscribe_all = False


async def test_sharded_channels_are_spread_over_the_nodes(cluster: list[RedisServer]) -> None:
    async with open_cluster(cluster) as client, Hub() as hub:
        listener = await connect(hub)
        async with RedisBridge(hub, client, sharded=True):
            for number in range(30):
                await hub.subscribe(hub.connections[0], f"c{number}")
            counts = [len(shard_channels(server)) for server in cluster]
            # And the channels of broadcasts and of the fleet.
            assert sum(counts) == 32
            assert all(count > 3 for count in counts)
            publisher = redis.RedisCluster(host="127.0.0.1", port=cluster[0].port)
            with publisher, RedisPublisher(publisher, sharded=True) as sharded_publisher:
                for number in range(30):
                    message = Message(type=MessageType.EVENT, data=number)
                    await asyncio.to_thread(sharded_publisher.publish, f"c{number}", message)
                    assert (await listener.receive()).data == number
                await asyncio.to_thread(sharded_publisher.send_event, "all")
                assert (await listener.receive()).data["event"] == "all"


def shard_channels(server: RedisServer) -> list[bytes]:
    with server.client() as client:
        channels: list[bytes] = client.execute_command("PUBSUB", "SHARDCHANNELS", "ws:[bc]*")
        return channels


async def test_bridges_with_one_client_load_its_map_one_after_the_other(
    cluster: list[RedisServer],
) -> None:
    async with open_cluster(cluster) as client:
        maps = [ClusterMap(client) for _ in range(3)]
        for _ in range(5):
            await asyncio.gather(*(each.reload(5.0) for each in maps))
    # redis-py 7.0 and older would leave connections open otherwise.
    await wait_until(lambda: sum(map(count_clients, cluster)) == len(cluster))


def count_clients(server: RedisServer) -> int:
    with server.client() as client:
        return len(client.client_list())


async def test_the_channels_of_a_moved_slot_move_to_its_new_node() -> None:
    with run_cluster() as servers:
        slot = key_slot(f"ws:channel:{CHANNEL}".encode())
        source = servers[3 * slot // 16_384]
        target, other = (server for server in servers if server is not source)
        async with (
            open_cluster(servers) as client,
            run_fleet(lambda _: client, sharded=True) as fleet,
        ):
            async with fleet.load():
                begin = now()
                await asyncio.to_thread(move_slot, source, target, [other], slot)
                await wait_until(lambda: channel_subscribers(target) == 3)
                end = await fleet.wait_recovered()
                await asyncio.sleep(0.5)
            assert_within(fleet, await fleet.account(), begin, end + 0.1)
            assert channel_subscribers(source) == 0


def channel_subscribers(server: RedisServer) -> int:
    with server.client() as client:
        try:
            reply = client.execute_command("PUBSUB", "SHARDNUMSUB", f"ws:channel:{CHANNEL}")
        except redis.RedisError:
            return 0
        return int(reply[1] if isinstance(reply[0], bytes) else reply[0][1])


async def test_without_one_node_the_channels_of_the_other_nodes_work() -> None:
    with run_cluster() as servers:
        for server in servers:
            with server.client() as client:
                client.config_set("cluster-require-full-coverage", "no")
                client.config_set("cluster-allow-pubsubshard-when-down", "yes")
        broadcast_slot = key_slot(b"ws:broadcast")
        keeper = 3 * broadcast_slot // 16_384
        async with (
            open_cluster(servers) as client,
            Hub() as here,
            Hub() as there,
            RedisBridge(here, client, sharded=True, timeout=1) as bridge,
            RedisBridge(there, client, sharded=True, timeout=1),
        ):
            listener = await connect(there)
            servers[(keeper + 1) % 3].kill()
            await wait_until(lambda: bridge.state == BridgeState.DEGRADED)
            await bridge.broadcast(Message(type=MessageType.EVENT, data="still"))
            assert (await listener.receive()).data == "still"


def is_in(bridge: RedisBridge, state: BridgeState) -> bool:
    return bridge.state == state


async def test_the_bridge_recovers_from_an_outage_of_all_nodes() -> None:
    with run_cluster() as servers:
        for sharded in (True, False):
            async with open_cluster(servers) as client, Hub() as here, Hub() as there:
                options = {"sharded": sharded, "timeout": 1.0, "replay_seconds": 0.0}
                async with (
                    RedisBridge(here, client, **options) as bridge,  # type: ignore[arg-type]
                    RedisBridge(there, client, **options),  # type: ignore[arg-type]
                ):
                    listener = await connect(there)
                    for server in servers:
                        server.kill()
                    await wait_until(partial(is_in, bridge, BridgeState.DOWN))
                    # The map is refreshed in the meantime, and no node answers.
                    await asyncio.sleep(2.5)
                    for server in servers:
                        server.start()
                    await wait_until(partial(is_in, bridge, BridgeState.UP))
                    received = False
                    async with asyncio.timeout(20):
                        while not received:
                            here.send_event("back")
                            await asyncio.sleep(0.05)
                            received = bool(listener.messages)
        for server in servers:
            server.kill()
        nodes = [ClusterNode("127.0.0.1", server.port) for server in servers]
        async with Hub() as hub:
            for sharded in (True, False):
                away = RedisCluster(startup_nodes=nodes)
                with pytest.raises(BridgeUnavailableError):
                    await RedisBridge(hub, away, sharded=sharded, timeout=1).start()
                await away.aclose()


async def test_the_bridge_finds_replaced_primaries() -> None:
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--cluster-port"]
    buses = [str(find_free_port()) for _ in range(2)]
    async with AsyncExitStack() as stack:
        old, new = (stack.enter_context(run_server(*options, bus)) for bus in buses)
        with old.client() as old_client, new.client() as new_client:
            old_client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
            new_client.execute_command("CLUSTER", "MEET", "127.0.0.1", old.port, buses[0])
            old_id = old_client.execute_command("CLUSTER", "MYID")

            def is_replica() -> bool:
                with contextlib.suppress(redis.ResponseError):
                    new_client.execute_command("CLUSTER", "REPLICATE", old_id)
                info = new_client.info("replication")
                state = old_client.execute_command("CLUSTER", "INFO")
                return info.get("master_link_status") == "up" and b"cluster_state:ok" in state

            await wait_until(is_replica)
            # The node forgets the new node as soon as the old node reports that there is no other.
            client = RedisCluster(
                startup_nodes=[ClusterNode("127.0.0.1", each.port) for each in (old, new)]
            )
            async with Hub() as hub, RedisBridge(hub, client, timeout=1) as bridge:
                old.kill()
                await wait_until(lambda: bridge.state == BridgeState.DOWN)
                new_client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
                await wait_until(lambda: bridge.state == BridgeState.UP)
            await client.aclose()


async def test_a_blocking_publisher_on_a_cluster_loses_nothing(cluster: list[RedisServer]) -> None:
    channels = [f"c{number}" for number in range(9)]

    def publish() -> None:
        with redis.RedisCluster(host="127.0.0.1", port=cluster[0].port) as sync_client:
            publisher = RedisPublisher(sync_client)
            for number in range(900):
                message = Message(type=MessageType.EVENT, data=number)
                publisher.publish(channels[number % 9], message)

    async with (
        open_cluster(cluster) as client,
        Hub() as hub,
        RedisBridge(hub, client) as bridge,
    ):
        listener = await connect(hub)
        for channel in channels:
            await hub.subscribe(hub.connections[0], channel)
        await asyncio.to_thread(publish)
        received = [await listener.receive() for _ in range(900)]
        for channel in channels:
            numbers = [each.data for each in received if each.channel == channel]
            assert numbers == sorted(numbers)
        assert bridge.stats().duplicates == 0


async def test_a_subscription_during_a_refresh_of_the_map_is_confirmed() -> None:
    with run_cluster() as servers:
        slot = key_slot(b"ws:channel:x")
        source = servers[3 * slot // 16_384]
        target, other = (server for server in servers if server is not source)
        async with (
            open_cluster(servers) as client,
            Hub() as hub,
            RedisBridge(hub, client, sharded=True, timeout=1) as bridge,
        ):
            listener = await connect(hub)
            await asyncio.to_thread(move_slot, source, target, [other], slot)
            # The bridge uses the old map: the old node refuses, and the refresh finds the new one.
            listener.send(b'{"type":"subscribe","id":1,"channel":"x"}')
            async with asyncio.timeout(10):
                assert (await listener.receive()).type == MessageType.SUBSCRIBED
            with redis.RedisCluster(host="127.0.0.1", port=target.port) as sync_client:
                publisher = RedisPublisher(sync_client, sharded=True)
                await asyncio.to_thread(publisher.send_event, "all")
                message = Message(type=MessageType.EVENT, data="far")
                await asyncio.to_thread(publisher.publish, "x", message)
            received = {str((await listener.receive()).data) for _ in range(2)}
            assert "far" in received
            assert bridge.state == BridgeState.UP
