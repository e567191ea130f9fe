"""A rolling restart of two hubs loses no message, and spreads the reconnects."""

import asyncio
from pathlib import Path

from deployment import find_program
from redis_servers import run_server
from rolling_restart import restart_hubs

CLIENTS = 200
WINDOW = 6.0


async def test_a_rolling_restart_loses_no_message_and_spreads_the_reconnects(
    tmp_path: Path,
) -> None:
    find_program("nginx")
    # The debug mode would make 200 clients in one process slower than the drain.
    asyncio.get_running_loop().set_debug(False)
    with run_server() as redis:
        report = await restart_hubs(redis.url, tmp_path, CLIENTS, WINDOW, pause=0.02)
    assert report.published > 20
    assert report.faults == []
    assert report.statuses == [0, 0]
    for histogram in report.histograms():
        # Each client of the hub reconnects once. The second hub has the clients of both.
        assert histogram.total() >= CLIENTS / 2 - 10
        # Without a window, nearly all come within a second. `bench:restart` measures the spread.
        assert max(histogram.values()) <= histogram.total() / 2
