"""An event stream that moves between hubs on one Redis: the id of one hub counts on the other."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from redis_servers import RedisServer, run_server
from sse_client import open_stream
from support import eventually

from wshub_core import HistoryLimits, Hub, HubConfig, Message
from wshub_redis import RedisBridge


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@asynccontextmanager
async def run_hub(redis: RedisServer) -> AsyncIterator[tuple[Hub, int]]:
    config = HubConfig(history={"*": HistoryLimits()}, close_timeout=2)
    async with (
        Hub(config) as hub,
        RedisBridge(hub, redis.url),
        hub.serve("127.0.0.1", 0, http_app=hub.sse()) as server,
    ):
        yield hub, server.port


def is_empty(hub: Hub) -> bool:
    return hub.stats().clients == 0


async def test_a_stream_goes_on_at_another_hub(redis: RedisServer) -> None:
    got: list[object] = []
    last_id = "0"
    async with run_hub(redis) as (first, first_port), run_hub(redis) as (second, second_port):
        for number in range(20):
            hub, port = [(first, first_port), (second, second_port)][number % 2]
            async with open_stream(port, "news", headers={"Last-Event-ID": last_id}) as stream:
                (answer,) = await stream.messages(1)
                assert answer["data"]["recovered"]
                # From the other hub, while the client is connected, and while it is away.
                other = second if hub is first else first
                other.publish("news", Message(type="event", data=2 * number))
                while len(got) < 2 * number + 1:
                    got += await stream.data(1)
                last_id = stream.last_id
            await eventually(partial(is_empty, hub))
            hub.publish("news", Message(type="event", data=2 * number + 1))
        assert got == list(range(39))
