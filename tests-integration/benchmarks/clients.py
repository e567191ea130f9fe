"""Cost of clients compared with plain `websockets`, and the reconnect of many clients to a hub.

    hatch run bench:clients
    hatch run bench:clients --clients 1000 --away 5

The hub runs in its own process on the first core, and the clients run in processes on the last
core. The costs are medians over the rounds, in which both kinds take turns: CPU time of the process
per received message, and resident memory per client. For the restart, the hub closes its
connections and ends, and after some seconds another hub listens on the same port. The benchmark
reports the times of the reconnects, counted from the start of the second hub, and the connections
and subscriptions that the second hub counted. The benchmark needs Linux.
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from websockets.asyncio.client import connect

from wshub_client import ReconnectingClient
from wshub_core import Connection, Hub, HubConfig, Message

CHANNEL = "process:build-42"
PAYLOAD = "x" * 128


# The hub: reads commands from standard input, one per line, and answers each command with one line
# on standard output.


async def serve(port: int) -> None:
    subscribed: Counter[int] = Counter()

    def count(connection: Connection, channel: str) -> bool:
        subscribed[connection.id] += 1
        return True

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    config = HubConfig(channel_authorizer=count, max_outbox_bytes=100_000_000)
    async with Hub(config) as hub, hub.serve("127.0.0.1", port) as server:
        print(server.port, flush=True)
        while line := (await reader.readline()).decode().split():
            match line:
                case ["subscribers"]:
                    print(hub.subscriber_count(CHANNEL), flush=True)
                case ["report"]:
                    twice = sum(each > 1 for each in subscribed.values())
                    print(hub.stats().connections, len(subscribed), twice, flush=True)
                case ["send", number]:
                    for _ in range(int(number)):
                        hub.publish(CHANNEL, Message(type="event", data=PAYLOAD))
                        await asyncio.sleep(0.002)
                    print("sent", flush=True)


class HubProcess:
    """A hub in another process."""

    def __init__(self, port: int = 0) -> None:
        self._process = start("serve", str(port))
        self.port = int(self._read())

    def ask(self, *words: object) -> str:
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._read()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


# The clients of either kind: a process that prints its own cost.


async def receive_wshub(url: str, clients: int, messages: int) -> None:
    async with AsyncExitStack() as stack:

        async def enter() -> Callable[[], Awaitable[object]]:
            client = await stack.enter_async_context(ReconnectingClient(url))
            await client.subscribe(CHANNEL)
            return client.receive

        await measure(enter, clients, messages)


async def receive_websockets(url: str, clients: int, messages: int) -> None:
    async with AsyncExitStack() as stack:

        async def enter() -> Callable[[], Awaitable[object]]:
            # The minimum for a program: decoded messages, and no compression.
            socket = await stack.enter_async_context(connect(url, compression=None))
            await socket.send(f'{{"type":"subscribe","channel":"{CHANNEL}"}}')

            async def receive() -> object:
                return json.loads(await socket.recv())

            return receive

        await measure(enter, clients, messages)


async def measure(
    enter: Callable[[], Awaitable[Callable[[], Awaitable[object]]]], clients: int, messages: int
) -> None:
    before = resident_bytes()
    receivers = [await enter() for _ in range(clients)]
    await asyncio.sleep(1)
    memory = (resident_bytes() - before) / clients

    async def receive_all(receive: Callable[[], Awaitable[object]]) -> None:
        for _ in range(messages):
            await receive()

    cpu = time.process_time()
    print("ready", flush=True)
    await asyncio.gather(*map(receive_all, receivers))
    cpu = time.process_time() - cpu
    print(memory, cpu / clients / messages, flush=True)


def resident_bytes() -> int:
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def compare(arguments: argparse.Namespace) -> None:
    costs: dict[str, list[tuple[float, float]]] = {"wshub": [], "websockets": []}
    for _ in range(arguments.rounds):
        for kind, found in costs.items():
            hub = HubProcess()
            url = f"ws://127.0.0.1:{hub.port}/ws"
            process = start(kind, url, str(arguments.receivers), str(arguments.messages))
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            while int(hub.ask("subscribers")) < arguments.receivers:
                time.sleep(0.05)
            hub.ask("send", arguments.messages)
            memory, cpu = map(float, process.stdout.readline().split())
            found.append((memory, cpu))
            process.communicate()
            hub.stop()
    names = ("memory per client, KB", "CPU per received message, µs")
    for index, (name, unit) in enumerate(zip(names, (1e-3, 1e6), strict=True)):
        ours, theirs = (
            statistics.median(cost[index] for cost in costs[kind]) * unit for kind in costs
        )
        print(f"{name:32} wshub {ours:7.1f}  websockets {theirs:7.1f}  ratio {ours / theirs:.2f}")


async def come_back(arguments: argparse.Namespace) -> None:
    hub = HubProcess()
    url = f"ws://127.0.0.1:{hub.port}/ws"
    back_at: list[float] = []
    failed_dials = 0

    def note_error(error: Exception) -> None:
        nonlocal failed_dials
        failed_dials += type(error).__name__ == "DialError"

    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(arguments.clients):
            client = ReconnectingClient(
                url,
                on_reconnect=lambda _: back_at.append(time.monotonic()),
                on_error=note_error,
                on_message=lambda _: None,
            )
            await client.subscribe(CHANNEL)
            clients.append(await stack.enter_async_context(client))
        await asyncio.to_thread(hub.stop)
        await asyncio.sleep(arguments.away)
        again = await asyncio.to_thread(HubProcess, hub.port)
        listens_at = time.monotonic()
        async with asyncio.timeout(120):
            while len(back_at) < arguments.clients:  # noqa: ASYNC110 - polling costs little here
                await asyncio.sleep(0.05)
        connections, subscribed, twice = map(int, again.ask("report").split())
        subscribers = int(again.ask("subscribers"))
    await asyncio.to_thread(again.stop)
    times = sorted(at - listens_at for at in back_at)
    print(f"\n{arguments.clients} clients, no hub for {arguments.away:g} s")
    print(f"failed dials: {failed_dials}")
    print(f"connections {connections}, subscribers {subscribers}, subscribed twice {twice}")
    assert subscribed == arguments.clients
    for name, part in (("first", 0.0), ("median", 0.5), ("90 %", 0.9), ("last", 1.0)):
        print(f"{name:8} {times[min(int(part * len(times)), len(times) - 1)]:6.2f} s")
    per_half_second = Counter(int(at * 2) for at in times)
    for bucket in sorted(per_half_second):
        number = per_half_second[bucket]
        print(f"{bucket / 2:5.1f} s {number:5} {'#' * (number // 5)}")


def main() -> None:
    match sys.argv[1:]:
        case ["serve", port]:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            asyncio.run(serve(int(port)))
        case [("wshub" | "websockets") as kind, url, clients, messages]:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            receive = receive_wshub if kind == "wshub" else receive_websockets
            asyncio.run(receive(url, int(clients), int(messages)))
        case _:
            parser = argparse.ArgumentParser(description=__doc__)
            parser.add_argument("--clients", type=int, default=1_000, help="that reconnect")
            parser.add_argument("--away", type=float, default=3.0, help="seconds without a hub")
            parser.add_argument("--receivers", type=int, default=200, help="clients for the costs")
            parser.add_argument("--messages", type=int, default=500, help="messages per round")
            parser.add_argument("--rounds", type=int, default=3)
            arguments = parser.parse_args()
            compare(arguments)
            asyncio.run(come_back(arguments))


if __name__ == "__main__":
    main()
