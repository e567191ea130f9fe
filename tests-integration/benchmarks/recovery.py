"""Cost of clients that recover what they have missed, after a restart of their hub.

    hatch run bench:recovery
    hatch run bench:recovery --clients 1000 --missed 500

A hub with a history in Redis publishes messages, and ends. A new hub starts at the same address.
The clients connect, and then all ask for the messages behind the same position at once. The
benchmark checks that each client gets each message once and in order. It reports the time, the CPU
time of the server, and the number of reads of Redis. Server and clients are processes of their own.
The Redis-compatible server comes from a wheel. The benchmark needs Linux.
"""

import argparse
import asyncio
import base64
import os
import re
import selectors
import socket
import sys
import time
from pathlib import Path

from child_process import ChildProcess

sys.path.insert(0, str(Path(__file__).parents[2] / "packages/wshub-redis/tests"))

CHANNEL = "process:build"
LINE = "2026-11-29 12:00:00 INFO compiled one more file of the package in 0.123 s"


async def serve(url: str, port: int) -> None:
    """Serve a hub, and run the commands `publish N`, `position`, `cpu` and `memory`."""
    from wshub_core import HistoryLimits, Hub, HubConfig
    from wshub_redis import RedisBridge

    config = HubConfig(history={"process:*": HistoryLimits()})
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with Hub(config) as hub, RedisBridge(hub, url), hub.serve("127.0.0.1", port) as server:
        print(server.port, flush=True)
        while line := (await reader.readline()).decode().split():
            if line[0] == "cpu":
                print(time.process_time(), flush=True)
            elif line[0] == "position":
                page = await hub.history(CHANNEL, limit=1)
                print(page.epoch, page.offset, flush=True)
            else:
                for _ in range(int(line[1])):
                    hub.send_process_output("build", LINE)
                    await hub.drain()
                while (await hub.history(CHANNEL, limit=1)).offset < int(line[1]):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                print("done", flush=True)


# The clients.


class Client:
    """A connection that checks the offsets of the messages that arrive."""

    is_position = re.compile(rb'"offset":(\d+)\}').finditer

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(request)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.socket.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        self.socket.setblocking(False)
        self.tail = b""
        self.offset = 0

    def ask(self, since: int, epoch: str) -> None:
        self.offset = since
        text = (
            f'{{"type":"subscribe","channel":"{CHANNEL}","id":1,'
            f'"history":{{"since":{since},"epoch":"{epoch}"}}}}'
        ).encode()
        self.socket.sendall(bytes([0x81, 0xFE]) + len(text).to_bytes(2, "big") + bytes(4) + text)

    def read(self) -> None:
        data = self.tail + self.socket.recv(1_000_000)
        assert b'"recovered":false' not in data, data[:300]
        end = 0
        for match in self.is_position(data):
            assert int(match[1]) == self.offset + 1, (match[1], self.offset)
            self.offset += 1
            end = match.end()
        self.tail = data[end:]


def recover(port: int, number: int, since: int, epoch: str, newest: int) -> None:
    """Connect, print `ready`, wait for a line, recover, and print the time of each percentile."""
    request = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
    ).encode()
    selector = selectors.DefaultSelector()
    clients = [Client(port, request) for _ in range(number)]
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.monotonic()
    for client in clients:
        client.ask(since, epoch)
        selector.register(client.socket, selectors.EVENT_READ, client)
    times: list[float] = []
    while len(times) < number:
        for key, _ in selector.select(60):
            key.data.read()
            if key.data.offset == newest:
                times.append(time.monotonic() - start)
                selector.unregister(key.fileobj)
    print(times[0], times[number // 2], times[-1], flush=True)


# The parent process.


def script_calls(url: str) -> int:
    """Return the number of scripts that the server has run."""
    from redis import Redis

    with Redis.from_url(url) as redis:
        stats = redis.info("commandstats")
        names = ("cmdstat_eval", "cmdstat_evalsha")
        return sum(stats[name]["calls"] for name in names if name in stats)


def measure(url: str, clients: int, missed: int) -> None:
    server = ChildProcess(__file__, "serve", url, "0")
    holder = None
    try:
        port = server.read()
        server.ask(f"publish {2 * missed}")
        epoch, newest = server.ask("position").split()
        server.end()
        server = ChildProcess(__file__, "serve", url, port)
        server.read()
        since = int(newest) - missed
        start, cpu = time.monotonic(), float(server.ask("cpu"))
        holder = ChildProcess(__file__, "recover", port, str(clients), str(since), epoch, newest)
        assert holder.read() == "ready"
        connected, cpu_connected = time.monotonic(), float(server.ask("cpu"))
        calls = script_calls(url)
        first, median, last = map(float, holder.ask("go").split())
        cpu_recovered = float(server.ask("cpu"))
        print(f"{clients} clients, {missed} missed messages each, none lost, none twice")
        print(f"connected   {connected - start:6.2f} s   server CPU {cpu_connected - cpu:6.2f} s")
        print(f"recovered   {last:6.2f} s   server CPU {cpu_recovered - cpu_connected:6.2f} s")
        print(f"            first {first:.2f} s, median {median:.2f} s")
        microseconds = (cpu_recovered - cpu_connected) / clients / missed * 1e6
        print(f"CPU per recovered message  {microseconds:.2f} µs")
        print(f"scripts that Redis has run  {script_calls(url) - calls}")
    finally:
        server.end()
        if holder is not None:
            holder.end()


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(sys.argv[2], int(sys.argv[3])))
    elif sys.argv[1:2] == ["recover"]:
        port, number, since, epoch, newest = sys.argv[2:]
        recover(int(port), int(number), int(since), epoch, int(newest))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--clients", type=int, default=10_000)
        parser.add_argument("--missed", type=int, default=100, help="messages")
        arguments = parser.parse_args()
        from redis_servers import run_server

        with run_server() as redis:
            measure(redis.url, arguments.clients, arguments.missed)


if __name__ == "__main__":
    main()
