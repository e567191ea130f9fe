"""Server cost of a delivery by event streams, compared with WebSockets.

The servers run in turns, each in its own process on the first core: the hub's own server with
WebSockets and with event streams, and uvicorn with event streams. A process on the last core holds
the connections and counts the messages that arrive. The benchmark reports medians over the rounds:
CPU time of the server process per delivered message, and resident memory per idle connection. It
needs Linux.

    hatch run bench:sse
    hatch run bench:sse --clients 500 --rounds 5
"""

import argparse
import asyncio
import gc
import os
import resource
import selectors
import socket
import statistics
import sys
import time
from typing import Any

from child_process import ChildProcess

from wshub_core import Hub, HubConfig, Message

NAMES = ("websocket", "sse", "sse-uvicorn")
PER_TURN = (1, 8)
MESSAGE = Message(type="event", data="x" * 128)


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


async def serve(name: str) -> None:
    """Serve a hub, and run the commands `memory`, `clients` and `send N K` from standard input."""
    # The clients answer no pings.
    async with Hub(HubConfig(heartbeat_interval=3_600)) as hub:
        if name != "sse-uvicorn":
            async with hub.serve("127.0.0.1", 0, http_app=hub.sse()) as server:
                await serve_commands(hub, server.port)
            return
        import uvicorn

        listening = socket.create_server(("127.0.0.1", 0), backlog=2_048)
        config = uvicorn.Config(hub.sse(), log_level="warning", lifespan="off")
        uvicorn_server = uvicorn.Server(config)
        serving = asyncio.create_task(uvicorn_server.serve(sockets=[listening]))
        await serve_commands(hub, listening.getsockname()[1])
        serving.cancel()


async def serve_commands(hub: Hub, port: int) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    print(port, flush=True)
    while line := (await reader.readline()).decode().split():
        if line[0] == "memory":
            gc.collect()
            print(resident_bytes(), flush=True)
        elif line[0] == "clients":
            print(hub.subscriber_count("news"), flush=True)
        else:
            start = time.process_time()
            for _ in range(int(line[1])):
                for _ in range(int(line[2])):
                    hub.publish("news", MESSAGE)
                # Leave time to write and read all messages: the benchmark measures CPU time.
                await asyncio.sleep(0.001 + hub.subscriber_count("news") * 150e-6)
            print(time.process_time() - start, flush=True)


def hold_connections(name: str, port: int, number: int) -> None:
    """Open connections, and print the number of received messages for each input line."""
    upgrade = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    is_websocket = name == "websocket"
    target = "/ws" if is_websocket else "/sse?channel=news"
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{upgrade * is_websocket}\r\n"
    subscribe = b'{"type":"subscribe","channel":"news"}'
    frame = bytes([0x81, 0x80 | len(subscribe), 0, 0, 0, 0]) + subscribe
    selector = selectors.DefaultSelector()
    for _ in range(number):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request.encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n" if is_websocket else b"\n\n\r\n"):
            answer += connection.recv(4_096)
        if is_websocket:
            connection.sendall(frame)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print("ready", flush=True)
    messages = 0
    while True:
        for key, _ in selector.select():
            if isinstance(key.fileobj, socket.socket):
                # A read never splits this text: a write is far smaller than the buffers.
                messages += key.fileobj.recv(1_000_000).count(b'"type":"event"')
            elif not sys.stdin.readline():
                return
            else:
                print(messages, flush=True)


class Setup:
    """A server and its clients."""

    def __init__(self, name: str, clients: int) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.name = name
        self.clients = clients
        self.server = ChildProcess(__file__, "serve", name, core=cores[0])
        port = self.server.read()
        before = int(self.server.ask("memory"))
        self.holder = ChildProcess(__file__, "hold", name, port, str(clients), core=cores[-1])
        assert self.holder.read() == "ready"
        while int(self.server.ask("clients")) < clients:
            time.sleep(0.1)
        self.kilobytes = (int(self.server.ask("memory")) - before) / clients / 1_024

    def measure(self, messages: int, per_turn: int) -> float:
        """Return the server's CPU time per delivered message, in microseconds."""
        before = int(self.holder.ask("count"))
        seconds = float(self.server.ask(f"send {messages} {per_turn}"))
        expected = messages * per_turn * self.clients
        deadline = time.monotonic() + 10
        while (received := int(self.holder.ask("count")) - before) < expected:
            assert time.monotonic() < deadline, f"{self.name}: {received} of {expected} arrived"
            time.sleep(0.05)
        return seconds / expected * 1e6

    def end(self) -> None:
        self.server.end()
        self.holder.end()


def compare(arguments: Any) -> None:
    setups = []
    try:
        setups += [Setup(name, arguments.clients) for name in NAMES]
        for setup in setups:
            print(f"memory of an idle connection  {setup.name:12}  {setup.kilobytes:6.1f} KB")
        for per_turn in PER_TURN:
            times: dict[str, list[float]] = {name: [] for name in NAMES}
            for _ in range(arguments.rounds):
                for setup in setups:
                    times[setup.name].append(setup.measure(arguments.messages, per_turn))
            for name, values in times.items():
                median = statistics.median(values)
                what = f"CPU per delivery, {per_turn} message(s) a turn"
                print(f"{what}  {name:12}  {median:6.2f} µs", flush=True)
    finally:
        for setup in setups:
            setup.end()


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(sys.argv[2]))
    elif sys.argv[1:2] == ["hold"]:
        hold_connections(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--clients", type=int, default=500, help="connections per server")
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--messages", type=int, default=30, help="turns per round")
        compare(parser.parse_args())


if __name__ == "__main__":
    main()
