"""A rolling restart of two hubs behind nginx, with thousands of clients: reconnects per second.

    hatch run bench:restart
    hatch run bench:restart --clients 1000 --window 10

Clients follow a channel with history through nginx, while each hub is drained and started again.
The benchmark checks that each client gets each message once and in order. It prints the number of
reconnects in each second of each drain, and fails if a second has more than the stated share. The
hubs, nginx and a Redis-compatible server are processes of their own; the clients share one process.
The benchmark needs Linux and nginx.
"""

import argparse
import asyncio
import gc
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [
    str(ROOT / "tests-integration"),
    str(ROOT / "packages/wshub-core/tests"),
    str(ROOT / "packages/wshub-redis/tests"),
]


def main() -> int:
    """Run the benchmark; return 1 if messages were lost, or if the reconnects were not spread."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=5_000)
    parser.add_argument("--window", type=float, default=30.0, help="window of a drain, in seconds")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between two messages")
    parser.add_argument(
        "--share", type=float, default=3.0, help="the most in a second, as a multiple of the mean"
    )
    arguments = parser.parse_args()

    from redis_servers import run_server
    from rolling_restart import restart_hubs

    # A collection would stop all clients for a second, which are programs of their own in practice.
    gc.disable()
    with run_server() as redis, tempfile.TemporaryDirectory() as directory:
        report = asyncio.run(
            restart_hubs(
                redis.url,
                Path(directory),
                arguments.clients,
                arguments.window,
                arguments.pause,
            )
        )
    is_spread = True
    for number, histogram in enumerate(report.histograms(), 1):
        mean = histogram.total() / arguments.window
        most = max(histogram.values())
        is_spread = is_spread and most <= arguments.share * mean
        print(f"drain of hub {number}: {histogram.total()} reconnects, {mean:.0f} a second;")
        print(f"most in a second: {most}, {most / mean:.2f} times the mean")
        for second in range(max(histogram) + 1):
            count = histogram[second]
            print(f"{second:4} s {count:5} {'#' * round(40 * count / most)}")
    print(f"{report.published} messages, {len(report.faults)} faults, statuses {report.statuses}")
    for fault in report.faults[:5]:
        print(f"  {fault}")
    return 0 if is_spread and not report.faults else 1


if __name__ == "__main__":
    sys.exit(main())
