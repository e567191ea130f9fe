"""The contract of histories, with real servers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from fleet import wait_until
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis_servers import RedisServer, run_cluster, run_server

from wshub_core import BridgeState, Hub, HubConfig
from wshub_core.testing import SharedHistoryContract
from wshub_redis import RedisBridge

_prefixes = count()


class RedisHistoryContract(SharedHistoryContract):
    @pytest.fixture(autouse=True)
    def use_empty_history(self) -> None:
        self.prefix = f"fleet-{next(_prefixes)}"

    @asynccontextmanager
    async def open_hub(self, config: HubConfig) -> AsyncIterator[Hub]:
        async with Hub(config) as hub, self.open_bridge(hub):
            yield hub

    def open_bridge(self, hub: Hub) -> Any:
        raise NotImplementedError


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


class TestRedisHistory(RedisHistoryContract):
    can_interrupt = True

    @pytest.fixture(autouse=True)
    def use(self, server: RedisServer) -> None:
        self.server = server
        self.bridges: dict[Hub, RedisBridge] = {}

    @asynccontextmanager
    async def open_bridge(self, hub: Hub) -> AsyncIterator[None]:
        # Each hub has a user of its own on Redis, whose rights a test can change.
        user = f"hub-{len(self.bridges)}"
        with self.server.client() as client:
            client.acl_setuser(user, enabled=True, nopass=True, keys="*", commands=["+@all"])
            client.execute_command("ACL", "SETUSER", user, "allchannels")
        bridge = RedisBridge(hub, self.server.url, prefix=self.prefix, username=user, password="x")
        async with bridge:
            self.bridges[hub] = bridge
            yield

    @asynccontextmanager
    async def interrupt(self, hub: Hub) -> AsyncIterator[None]:
        bridge = self.bridges[hub]
        user = f"hub-{list(self.bridges).index(hub)}"
        with self.server.client() as client:
            client.execute_command("ACL", "SETUSER", user, "-subscribe")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "USER", user)
            await wait_until(lambda: bridge.state == BridgeState.DEGRADED)
            yield
            client.execute_command("ACL", "SETUSER", user, "+subscribe")
        await wait_until(lambda: bridge.state == BridgeState.UP)


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    with run_cluster() as servers:
        yield servers


class ClusterHistoryContract(RedisHistoryContract):
    sharded = False

    @pytest.fixture(autouse=True)
    def use(self, cluster: list[RedisServer]) -> None:
        self.servers = cluster

    @asynccontextmanager
    async def open_bridge(self, hub: Hub) -> AsyncIterator[None]:
        nodes = [ClusterNode("127.0.0.1", server.port) for server in self.servers]
        async with (
            RedisCluster(startup_nodes=nodes) as client,
            RedisBridge(hub, client, prefix=self.prefix, sharded=self.sharded),
        ):
            yield


class TestClusterHistory(ClusterHistoryContract):
    """Ordinary publishing: all histories of a fleet are on one node."""


class TestShardedClusterHistory(ClusterHistoryContract):
    """Sharded publishing: the histories are spread over the nodes."""

    sharded = True
