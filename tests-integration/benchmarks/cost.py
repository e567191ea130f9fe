"""Server cost of a delivery and of a connection, compared with `websockets.broadcast`.

The two servers run in turns, each in its own process on the first core. For each server, a process
on the last core holds the connections and counts the frames that arrive. The benchmark reports
medians over the rounds: CPU time of the server process per delivered message, resident memory per
idle connection, CPU time per accepted connection, and the longest turn of the event loop during a
fan-out. Two options add the CPU time of idle connections with their heartbeat, and the growth of
memory over many deliveries. With ``--compression``, the messages have about 1 KB, and all
connections use permessage-deflate. The benchmark needs Linux.

    hatch run bench:cost
    hatch run bench:cost --compression
    hatch run bench:cost --clients 9000 --rounds 3 --idle 60 --growth 1000000
"""

import argparse
import asyncio
import base64
import gc
import itertools
import json
import os
import random
import resource
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

from child_process import ChildProcess

COALESCED = 8
COMPRESSION = "--compression" in sys.argv


def make_payloads() -> list[object]:
    """Return the data of messages, which are sent in turn."""
    if not COMPRESSION:
        return ["x" * 128]
    # The items differ, so that a compressor does not find a whole message in the one before.
    numbers = random.Random(1)
    return [
        [
            {
                "id": numbers.randrange(10**6),
                "symbol": numbers.choice(["ALPHA", "BETA", "GAMMA", "DELTA"]),
                "price": round(100 * numbers.random(), 2),
                "at": f"2026-01-01T12:00:{numbers.randrange(60):02}Z",
            }
            for _ in range(12)
        ]
        for _ in range(100)
    ]


PAYLOADS = itertools.cycle(make_payloads())


# The servers: each reads commands from standard input, one per line, and answers each command with
# one line on standard output.


async def commands() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def serve_commands(
    port: int, count: Callable[[], int], send: Callable[[], Awaitable[None] | None]
) -> None:
    """Run the commands `memory`, `clients`, `cpu`, `stall N` and `send N K`.

    `send N K` sends N times K messages, K of them in one turn of the event loop. `stall N` measures
    the longest turn N times.
    """
    reader = await commands()
    print(port, flush=True)
    while line := (await reader.readline()).decode().split():
        if line[0] == "memory":
            gc.collect()
            print(resident_bytes(), flush=True)
        elif line[0] == "clients":
            print(count(), flush=True)
        elif line[0] == "cpu":
            print(time.process_time(), flush=True)
        elif line[0] == "stall":
            print(await longest_stall(send, int(line[1])), flush=True)
        else:
            start = time.process_time()
            for _ in range(int(line[1])):
                for _ in range(int(line[2])):
                    send()
                # Leave time to write and read all messages: the benchmark measures CPU time, and
                # the speed does not matter.
                await asyncio.sleep(0.001 + count() * 30e-6)
            print(time.process_time() - start, flush=True)


async def longest_stall(send: Callable[[], Awaitable[None] | None], times: int) -> float:
    """Send one message to all connections; return the longest turn of the loop, as a median.

    The unit is CPU time of this thread, which spins. Turns of other processes are not counted.
    """
    stalls = []
    for _ in range(times):
        # Pauses of the garbage collector are no part of the fan-out.
        gc.collect()
        gc.disable()
        longest = 0.0
        last = start = time.thread_time()
        send()
        while last - start < 0.5:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now
        gc.enable()
        stalls.append(longest)
    return statistics.median(stalls)


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


async def serve_wshub() -> None:
    from wshub_core import Compression, Hub, HubConfig, Message

    config = HubConfig(compression=Compression() if COMPRESSION else None)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        messages = [Message(type="event", data=next(PAYLOADS)) for _ in range(100)]
        cycle = itertools.cycle(messages)
        await serve_commands(
            server.port,
            lambda: hub.subscriber_count("news"),
            lambda: hub.publish("news", next(cycle)),
        )


async def serve_websockets() -> None:
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    connections: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        connections.add(connection)
        await connection.wait_closed()

    compression = "deflate" if COMPRESSION else None
    async with serve(handler, "127.0.0.1", 0, compression=compression, ping_interval=30) as server:
        port = server.sockets[0].getsockname()[1]
        # The same work as wshub: encode an object with a timestamp for every message.
        await serve_commands(
            port,
            lambda: len(connections),
            lambda: broadcast(
                connections,
                json.dumps(
                    {
                        "type": "event",
                        "channel": "news",
                        "data": next(PAYLOADS),
                        "timestamp": time.time(),
                    }
                ),
            ),
        )


# The client: holds many connections and counts the frames that arrive.


def hold_connections(port: int, number: int) -> None:
    """Open connections, subscribe, and print the number of received frames for each input line."""
    request = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
        + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" * COMPRESSION
        + "\r\n"
    ).encode()
    subscribe = b'{"type":"subscribe","channel":"news"}'
    frame = bytes([0x81, 0x80 | len(subscribe), 0, 0, 0, 0]) + subscribe
    selector = selectors.DefaultSelector()
    for _ in range(number):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        assert (b"permessage-deflate" in answer) is COMPRESSION
        connection.sendall(frame)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print("ready", flush=True)
    messages = 0
    while True:
        for key, _ in selector.select():
            if not isinstance(key.fileobj, socket.socket):
                if not sys.stdin.readline():
                    return
                print(messages, flush=True)
            else:
                # A read never splits a frame: a write is far smaller than the buffers, and this
                # process reads all of a write before the next write.
                for opcode, payload in split_frames(key.fileobj.recv(1_000_000)):
                    messages += opcode == 1
                    if opcode == 9:
                        pong = bytes([0x8A, 0x80 | len(payload), 0, 0, 0, 0]) + payload
                        key.fileobj.send(pong)


def split_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the opcode and the payload of each frame; no payload has 64 KiB or more."""
    start = 0
    while start < len(data):
        opcode, length = data[start] & 0x0F, data[start + 1]
        start += 2
        if length == 126:
            length = int.from_bytes(data[start : start + 2])
            start += 2
        yield opcode, data[start : start + length]
        start += length


# The parent process, which controls the others.


class Setup:
    """A server and its clients."""

    def __init__(self, name: str, clients: int) -> None:
        cores = sorted(os.sched_getaffinity(0))
        flags = ["--compression"] * COMPRESSION
        self.name = name
        self.clients = clients
        self.server = ChildProcess(__file__, "serve", name, *flags, core=cores[0])
        port = self.server.read()
        before = int(self.server.ask("memory"))
        cpu_before = float(self.server.ask("cpu"))
        self.holder = ChildProcess(__file__, "hold", port, str(clients), *flags, core=cores[-1])
        assert self.holder.read() == "ready"
        while int(self.server.ask("clients")) < clients:
            time.sleep(0.1)
        self.cpu_per_accept = (float(self.server.ask("cpu")) - cpu_before) / clients
        self.kilobytes_per_connection = (int(self.server.ask("memory")) - before) / clients / 1024

    def measure(self, messages: int, per_tick: int) -> float:
        """Return the server's CPU time per delivered message, in microseconds."""
        before = int(self.holder.ask("count"))
        seconds = float(self.server.ask(f"send {messages} {per_tick}"))
        expected = messages * per_tick * self.clients
        deadline = time.monotonic() + 10
        while (received := int(self.holder.ask("count")) - before) < expected:
            assert time.monotonic() < deadline, f"{self.name}: {received} of {expected} arrived"
            time.sleep(0.05)
        assert received == expected
        return seconds / expected * 1e6

    def measure_idle(self, seconds: float) -> float:
        """Return the share of a core that idle connections use, with their heartbeat."""
        before = float(self.server.ask("cpu"))
        time.sleep(seconds)
        return (float(self.server.ask("cpu")) - before) / seconds

    def measure_growth(self, deliveries: int) -> float:
        """Return the growth of the server's memory in MB over many deliveries, after a warm-up."""
        messages = deliveries // self.clients
        self.measure_silently(messages // 10)
        before = int(self.server.ask("memory"))
        self.measure_silently(messages)
        return (int(self.server.ask("memory")) - before) / 1e6

    def measure_silently(self, messages: int) -> None:
        ticks = messages // COALESCED
        self.server.ask(f"send {ticks} {COALESCED}")

    def end(self) -> None:
        self.server.end()
        self.holder.end()


NAMES = ("wshub", "websockets")


def report(name: str, values: dict[str, float], unit: str) -> None:
    parts = [f"{each} {values[each]:.2f} {unit}" for each in NAMES]
    ratio = values["wshub"] / values["websockets"] if values["websockets"] > 0 else float("nan")
    print(f"{name}:", *parts, f"(ratio {ratio:.2f})", sep="  ", flush=True)


def compare(arguments: argparse.Namespace) -> None:
    clients = arguments.clients
    setups = [Setup(name, clients) for name in NAMES]
    try:
        memory = {setup.name: setup.kilobytes_per_connection for setup in setups}
        report(f"{clients} idle connections, memory each", memory, "KB")
        accept = {setup.name: 1e-3 / setup.cpu_per_accept for setup in setups}
        report("connections accepted per CPU second", accept, "thousand")
        for per_tick in (1, COALESCED):
            times: dict[str, list[float]] = {name: [] for name in NAMES}
            for _ in range(arguments.rounds):
                for setup in setups:
                    times[setup.name].append(setup.measure(arguments.messages, per_tick))
            medians = {name: statistics.median(values) for name, values in times.items()}
            report(f"CPU per delivery, {per_tick} message(s) a tick", medians, "µs")
        command = f"stall {arguments.stalls}"
        stalls = {setup.name: float(setup.server.ask(command)) * 1e3 for setup in setups}
        report("longest turn of the loop in a fan-out, CPU", stalls, "ms")
        if arguments.idle:
            idle = {setup.name: setup.measure_idle(arguments.idle) * 100 for setup in setups}
            report("CPU of idle connections, with heartbeat", idle, "% of a core")
        if arguments.growth:
            growth = {setup.name: setup.measure_growth(arguments.growth) for setup in setups}
            report(f"growth over {arguments.growth} deliveries", growth, "MB")
    finally:
        for setup in setups:
            setup.end()


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve_wshub() if sys.argv[2] == "wshub" else serve_websockets())
    elif sys.argv[1:2] == ["hold"]:
        hold_connections(int(sys.argv[2]), int(sys.argv[3]))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--clients", type=int, default=1_000, help="connections per server")
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--messages", type=int, default=50, help="messages per round")
        parser.add_argument("--stalls", type=int, default=10, help="fan-outs to time, 0.5 s each")
        parser.add_argument("--idle", type=float, default=0.0, help="seconds; 0 skips the part")
        parser.add_argument("--growth", type=int, default=0, help="deliveries; 0 skips the part")
        parser.add_argument("--compression", action="store_true", help="with permessage-deflate")
        compare(parser.parse_args())


if __name__ == "__main__":
    main()
