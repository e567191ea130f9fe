"""The contract of histories, with real servers."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from fleet import wait_until
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis_servers import RedisServer, run_cluster, run_server
from tcp_proxy import TCPProxy, run_proxy

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
        self.ways: dict[Hub, tuple[RedisBridge, TCPProxy]] = {}

    @asynccontextmanager
    async def open_bridge(self, hub: Hub) -> AsyncIterator[None]:
        async with (
            run_proxy(self.server.port) as proxy,
            RedisBridge(hub, proxy.url, prefix=self.prefix) as bridge,
        ):
            self.ways[hub] = bridge, proxy
            yield

    @asynccontextmanager
    async def interrupt(self, hub: Hub) -> AsyncIterator[None]:
        bridge, proxy = self.ways[hub]
        message = re.compile(rb"\*3\r\n\$7\r\nmessage\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\n[^\r]*\r\n")
        proxy.edit = lambda data: message.sub(b"", data)
        yield
        proxy.edit = bytes
        # The bridge notices the loss of its connections.
        before = bridge.stats().reconnects
        proxy.close_connections()
        await wait_until(lambda: bridge.stats().reconnects > before + 1)
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
