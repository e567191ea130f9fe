"""A supervised connection tries again after every kind of failure."""

import asyncio
from collections.abc import Iterator

import pytest
from redis_servers import RedisServer, run_server

from wshub_redis.connection import ConnectionLostError, SupervisedConnection
from wshub_redis.redis_py.connections import RedisConnection
from wshub_redis.redis_py.servers import find_server
from wshub_redis.stats import Counters


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


class ConnectionWithLeftover(SupervisedConnection):
    """Fails once, and leaves a cancellation behind, as a TaskGroup of Python 3.11 does."""

    cancellations: asyncio.Future[int]
    has_failed = False

    async def use_connection(self, connection: RedisConnection) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self.has_failed:
            self.cancellations.set_result(task.cancelling())
            await asyncio.Event().wait()
        self.has_failed = True
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        raise ConnectionLostError("lost")

    def note_disconnect(self) -> None: ...


async def test_an_attempt_begins_without_cancellations_of_the_one_before(
    server: RedisServer,
) -> None:
    supervised = ConnectionWithLeftover(find_server(server.url, {}), 5.0, lambda: None, Counters())
    supervised.cancellations = asyncio.get_running_loop().create_future()
    supervised.start()
    try:
        # Otherwise timeouts of Python 3.11.2 raise CancelledError, which ends the attempts.
        assert await supervised.cancellations == 0
    finally:
        await supervised.close()
