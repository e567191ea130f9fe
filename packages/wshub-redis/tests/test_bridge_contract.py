"""The contract of bridges, with a real server."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest
from redis_servers import RedisServer, run_server

from wshub_core import Bridge, Hub
from wshub_core.testing import BridgeContract
from wshub_redis import RedisBridge


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


class TestRedisBridge(BridgeContract):
    @pytest.fixture(autouse=True)
    def use(self, server: RedisServer) -> None:
        self.server = server

    def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
        return RedisBridge(hub, self.server.url)
