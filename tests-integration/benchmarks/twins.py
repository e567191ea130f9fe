"""Cost of single operations: the nine benchmarks of go-ws, with every delivery counted.

The clients are transports without sockets, except in the fifth benchmark. Each benchmark waits
until the hub has delivered all messages and checks the number of deliveries. Allocations are the
peak of the memory that one operation allocates.

    hatch run bench:twins
    hatch run bench:twins --scale 0.01
"""

import argparse
import asyncio
import gc
import statistics
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from websockets.asyncio.client import connect

from wshub_core import (
    Connection,
    DisconnectCause,
    Hub,
    HubConfig,
    Message,
    MessageType,
    encode_message,
)
from wshub_core.connections.admission import ANONYMOUS
from wshub_core.hub import running_hub
from wshub_core.protocol.prepared import PreparedMessage

_parser = argparse.ArgumentParser(description=__doc__)
_parser.add_argument("--scale", type=float, default=1.0, help="factor on the operations")
SCALE: float = _parser.parse_args().scale

ROUNDS = 5
THREADS = 2
BURST = 100
"""Number of messages that a benchmark publishes before the hub delivers these messages."""

LOST = (DisconnectCause.LOST, 1006, "")
"""Cause, close code and reason for the end of a connection without a socket."""

EVENT = Message(type=MessageType.EVENT, data="bench")


class CountingTransport:
    """A transport that accepts every message."""

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        return 0

    def unsent_bytes(self) -> int:
        return 0

    def ping(self) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def add_clients(hub: Hub, number: int) -> list[Connection]:
    return [running_hub(hub).connect(CountingTransport(), "", ANONYMOUS) for _ in range(number)]


async def drain(hub: Hub, deliveries: int) -> None:
    """Wait until the hub has counted this number of deliveries in total."""
    while hub.stats().deliveries < deliveries:  # noqa: ASYNC110 - an event costs more
        await asyncio.sleep(0)
    assert hub.stats().deliveries == deliveries


async def measure(
    name: str,
    operations: int,
    run: Callable[[int], Awaitable[object]],
    deliveries_each: int,
) -> None:
    """Run operations in rounds; print the median time and the allocations of one operation."""
    operations = max(1, round(operations * SCALE))
    await run(min(BURST, operations))
    gc.collect()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        await run(operations)
        times.append((time.perf_counter() - start) / operations)
    nanoseconds = statistics.median(times) * 1e9
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    await run(1)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    rate = f"{deliveries_each / nanoseconds * 1e3:8.2f} M/s" if deliveries_each else " " * 12
    print(f"{name:24} {nanoseconds:12,.0f} ns/op {rate} deliveries {peak:10,} B/op", flush=True)


def from_threads(publish: Callable[[], None], operations: int) -> None:
    """Run operations from several threads at the same time."""

    def work() -> None:
        for _ in range(operations // THREADS):
            publish()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def fan_out(name: str, publish: Callable[[Hub], None], hub: Hub, deliveries: int) -> None:
    async def run(operations: int) -> None:
        expected = hub.stats().deliveries
        for done in range(1, operations + 1):
            publish(hub)
            expected += deliveries
            if done % BURST == 0 or done == operations:
                await drain(hub, expected)

    await measure(name, 2_000, run, deliveries)


async def fan_out_in_parallel(
    name: str, publish: Callable[[Hub], None], hub: Hub, deliveries: int
) -> None:
    async def run(operations: int) -> None:
        operations = max(operations // THREADS * THREADS, THREADS)
        expected = hub.stats().deliveries + operations * deliveries
        await asyncio.to_thread(from_threads, lambda: publish(hub), operations)
        await drain(hub, expected)

    await measure(name, 2_000, run, deliveries)


async def marshal() -> None:
    message = Message(
        type=MessageType.PROCESS_OUTPUT,
        channel="process:bench",
        process_id="bench",
        data="a line of output",
        timestamp=datetime(1, 1, 1, tzinfo=UTC),
    )

    async def run(operations: int) -> None:
        for _ in range(operations):
            encode_message(message)

    await measure("MarshalMessage", 100_000, run, 0)


async def end_to_end() -> None:
    async with (
        Hub() as hub,
        hub.serve("127.0.0.1", 0) as server,
        connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None, compression=None) as client,
    ):

        async def run(operations: int) -> None:
            for _ in range(operations):
                hub.broadcast(EVENT)
                await client.recv()

        await measure("WebSocketEndToEnd", 2_000, run, 1)


async def subscribe_unsubscribe(hub: Hub) -> None:
    (connection,) = hub.connections

    async def run(operations: int) -> None:
        for _ in range(operations):
            await hub.subscribe(connection, "bench")
            hub.unsubscribe(connection, "bench")

    await measure("SubscribeUnsubscribe", 20_000, run, 0)


async def concurrent_subscribers() -> None:
    async def run(operations: int) -> None:
        for _ in range(operations):
            async with Hub(HubConfig(close_timeout=0.001)) as hub:

                async def join(hub: Hub = hub) -> None:
                    (connection,) = add_clients(hub, 1)
                    await hub.subscribe(connection, "bench")

                await asyncio.gather(*(join() for _ in range(100)))
                assert hub.subscriber_count("bench") == 100
                for connection in running_hub(hub).registry.connections:
                    running_hub(hub).lifecycle.note_disconnected(connection, *LOST)

    await measure("ConcurrentSubscribers", 50, run, 0)


async def with_subscribers(
    clients: int, channels: int, work: Callable[[Hub], Awaitable[None]]
) -> None:
    """Run a benchmark on a hub with a number of channels, and of clients for each channel."""
    async with Hub() as hub:
        for channel in range(channels):
            for connection in add_clients(hub, clients):
                await hub.subscribe(connection, f"bench{channel}")
        await work(hub)
        for connection in running_hub(hub).registry.connections:
            running_hub(hub).lifecycle.note_disconnected(connection, *LOST)


def publish_to_ten(hub: Hub) -> None:
    for channel in range(10):
        hub.publish(f"bench{channel}", EVENT)


async def main() -> None:
    await with_subscribers(
        100, 1, lambda hub: fan_out("Broadcast_100", lambda hub: hub.broadcast(EVENT), hub, 100)
    )
    await with_subscribers(
        50,
        1,
        lambda hub: fan_out("SendToChannel_50", lambda hub: hub.publish("bench0", EVENT), hub, 50),
    )
    await with_subscribers(
        100,
        1,
        lambda hub: fan_out_in_parallel(
            "Broadcast_Parallel", lambda hub: hub.broadcast(EVENT), hub, 100
        ),
    )
    await marshal()
    await end_to_end()
    await with_subscribers(1, 1, subscribe_unsubscribe)
    await with_subscribers(
        50,
        1,
        lambda hub: fan_out_in_parallel(
            "SendToChannel_Parallel", lambda hub: hub.publish("bench0", EVENT), hub, 50
        ),
    )
    await with_subscribers(
        10, 10, lambda hub: fan_out("MultiChannelFanout", publish_to_ten, hub, 100)
    )
    await concurrent_subscribers()


if __name__ == "__main__":
    asyncio.run(main())
