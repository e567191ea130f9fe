"""The numbers of a bridge, for the metrics of its hub."""

import asyncio
from collections.abc import Iterator

import pytest
from fleet import wait_until
from redis_servers import RedisServer, run_server

from wshub_core import BridgeState, Hub
from wshub_redis import RedisBridge


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


async def test_the_queue_and_its_age_show_an_outage(server: RedisServer) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url, replay_seconds=60) as bridge:
        numbers = hub.measure()
        assert (numbers.bridge_state, numbers.bridge) == ("up", bridge.stats())
        assert (bridge.stats().queued_messages, bridge.stats().lag_seconds) == (0, 0)
        server.pause()
        for _ in range(3):
            hub.publish_event("a", "x" * 1_000)
        before = bridge.stats()
        await asyncio.sleep(0.1)
        after = bridge.stats()
        assert before.queued_messages == after.queued_messages == 3
        assert 3_000 < after.queued_bytes < 5_000
        assert before.lag_seconds < after.lag_seconds < 30
        assert after.lag_seconds >= 0.09
        # Collectors may read the numbers in another thread.
        assert (await asyncio.to_thread(bridge.stats)).queued_messages == 3
        server.resume()
        await wait_until(lambda: bridge.stats().published == 3)
        assert (bridge.stats().queued_bytes, bridge.stats().lag_seconds) == (0, 0)
        server.kill()
        await wait_until(lambda: bridge.state == BridgeState.DOWN)
        assert hub.measure().bridge_state == "down"
    assert bridge.stats().published == 3
    assert bridge.stats().queued_messages == 0
