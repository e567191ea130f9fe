"""A bridge with require_redis=False: it starts without Redis, and connects later."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from fleet import wait_until
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis_servers import RedisServer, run_cluster, run_server

from wshub_core import (
    BridgeAttachedError,
    BridgeState,
    BridgeUnavailableError,
    Hub,
    Message,
    MessageType,
)
from wshub_core.testing import connect
from wshub_redis import RedisBridge

AWAY: dict[str, Any] = {"require_redis": False, "timeout": 1.0}


def message(data: Any) -> Message:
    return Message(type=MessageType.EVENT, data=data)


async def test_the_bridge_connects_later_with_its_subscriptions_and_queued_messages(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[tuple[BridgeState, str]] = []
    with run_server() as server:
        server.kill()
        async with (
            Hub() as here,
            Hub() as there,
            RedisBridge(
                here,
                server.url,
                on_state_change=lambda each: told.append((each.state, each.reason)),
                # A server on a busy machine starts slowly.
                replay_seconds=60,
                **AWAY,
            ) as bridge,
            RedisBridge(there, server.url, **AWAY) as other,
        ):
            assert bridge.state == BridgeState.DOWN
            assert str(server.port) in bridge.reason
            assert told == [(BridgeState.DOWN, bridge.reason)]
            assert bridge.reason in caplog.text
            client = await connect(there)
            client.send(b'{"type":"subscribe","channel":"news","id":1}')
            here.publish("news", message("waits"))
            with pytest.raises(BridgeAttachedError):
                await bridge.start()
            server.start()
            assert (await client.receive()).type == MessageType.SUBSCRIBED
            await wait_until(lambda: bridge.state == other.state == BridgeState.UP)
            assert (await client.receive()).data == "waits"
            await bridge.publish("news", message("later"))
            assert (await client.receive()).data == "later"
        assert told[-1] == (BridgeState.UP, "")


async def test_with_redis_the_bridge_is_up_when_the_start_returns() -> None:
    told: list[BridgeState] = []
    with run_server() as server:
        async with (
            Hub() as here,
            Hub() as there,
            RedisBridge(
                here, server.url, on_state_change=lambda each: told.append(each.state), **AWAY
            ) as bridge,
            RedisBridge(there, server.url, **AWAY),
        ):
            assert (bridge.state, bridge.reason) == (BridgeState.UP, "")
            client = await connect(there)
            here.send_event("at once")
            assert (await client.receive()).data["event"] == "at once"
    assert told == []


async def test_a_bridge_that_was_never_up_leaves_no_task() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with Hub() as hub:
            before = asyncio.all_tasks()
            bridge = RedisBridge(hub, f"redis://127.0.0.1:{port}", require_redis=False, timeout=0.2)
            for _ in range(2):
                async with bridge:
                    assert "did not answer within 0.2 s" in bridge.reason
                    hub.send_event("lost")
                assert asyncio.all_tasks() == before
                assert "not running" in bridge.reason
            assert bridge.stats().lost == 2


async def test_a_wrong_password_is_the_reason_until_the_server_accepts_it() -> None:
    with run_server() as server, server.client() as client:
        client.config_set("requirepass", "right")
        async with (
            Hub() as hub,
            RedisBridge(hub, server.url, password="other", **AWAY) as bridge,
        ):
            assert bridge.state == BridgeState.DOWN
            assert "invalid username-password pair" in bridge.reason
            client.config_set("requirepass", "other")
            await wait_until(lambda: bridge.state == BridgeState.UP)


# Clusters whose map cannot be loaded yet.


@asynccontextmanager
async def open_bridges(
    servers: list[RedisServer], count: int, **settings: Any
) -> AsyncIterator[list[tuple[Hub, RedisBridge]]]:
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            nodes = [ClusterNode("127.0.0.1", server.port) for server in servers]
            cluster = RedisCluster(startup_nodes=nodes)
            stack.push_async_callback(cluster.aclose)
            hub = await stack.enter_async_context(Hub())
            bridge = RedisBridge(hub, cluster, **AWAY | settings)
            opened.append((hub, await stack.enter_async_context(bridge)))
        yield opened


@pytest.mark.parametrize("sharded", [True, False])
async def test_the_bridge_starts_without_a_cluster(sharded: bool) -> None:
    with run_cluster() as servers:
        for server in servers:
            server.kill()
        settings = {"sharded": sharded, "replay_seconds": 30.0}
        async with open_bridges(servers, 2, **settings) as ((here, bridge), (there, other)):
            assert bridge.state == other.state == BridgeState.DOWN
            assert bridge.reason
            client = await connect(there)
            for number in range(5):
                client.send(b'{"type":"subscribe","channel":"c%d","id":%d}' % (number, number))
            publishing = asyncio.create_task(bridge.publish("other", message("waits")))
            await asyncio.sleep(0)
            for server in servers:
                server.start()
            # The nodes of a restarted cluster need some seconds to accept commands.
            await wait_until(lambda: bridge.state == other.state == BridgeState.UP)
            for _ in range(5):
                assert (await client.receive()).type == MessageType.SUBSCRIBED
            assert (bridge.reason, other.reason) == ("", "")
            # The message has waited for the cluster, and then for the node of its channel.
            await publishing
            for number in range(5):
                here.publish(f"c{number}", message(number))
            received = [(await client.receive()).data for _ in range(5)]
            assert sorted(received) == list(range(5))


async def test_a_cluster_that_does_not_respond_does_not_block_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for sharded in (True, False):
            cluster = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port)])
            async with Hub() as hub:
                settings: dict[str, Any] = {"sharded": sharded, "timeout": 0.3}
                with pytest.raises(BridgeUnavailableError, match=r"within 0\.3 s"):
                    await RedisBridge(hub, cluster, **settings).start()
                async with RedisBridge(hub, cluster, require_redis=False, **settings) as bridge:
                    assert "did not answer within 0.3 s" in bridge.reason
                    hub.send_event("lost")
                assert bridge.stats().lost == 1
            await cluster.aclose()
