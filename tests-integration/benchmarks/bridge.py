"""Cost of a message through Redis, compared with python-socketio and channels_redis.

    hatch run bench:bridge
    hatch run bench:bridge --messages 50000 --rounds 5

Three processes use one Redis-compatible server, which comes from a wheel. The first process
publishes. The second process receives with one listener in its own memory, so that no WebSocket is
part of the cost. The third process is connected and has no listeners. All kinds take turns in each
round, and the benchmark reports medians. Throughput is counted from the first published message to
the last received message. CPU time is measured per process and per message. Latency is measured at
500 messages per second. At the end, the benchmark kills the server and starts the server again, and
reports the time from the first answer of the server to the first message that arrives.

`wshub` publishes with ``hub.publish``; `wshub, awaited` publishes with ``await bridge.publish``,
one message after the other. python-socketio and channels_redis publish with their own methods. The
benchmark needs Linux.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from wshub_core import BridgeState, Hub, Message
from wshub_core.testing import connect
from wshub_redis import RedisBridge

sys.path.insert(0, str(Path(__file__).parents[2] / "packages/wshub-redis/tests"))

KINDS = ["wshub", "wshub, awaited", "python-socketio", "channels_redis", "channels_redis, pub/sub"]
CHANNEL = "news"
PADDING = "x" * 128
RATE = 500

Publish = Callable[[Any], Awaitable[object]]
OnMessage = Callable[[Any], None]


# Each kind: opens a connection, calls a function for each message that arrives, and yields a
# function that publishes.


@asynccontextmanager
async def open_wshub(
    url: str, on_message: OnMessage | None, awaited: bool
) -> AsyncIterator[Publish]:
    async with Hub() as hub, RedisBridge(hub, url) as bridge:
        client = await connect(hub)
        if on_message is not None:
            client.note_message = (  # type: ignore[method-assign]
                lambda message: on_message(message.data) if message.type == "e" else None
            )
            await hub.subscribe(hub.connections[0], CHANNEL)

        async def publish(data: Any) -> None:
            hub.publish(CHANNEL, Message(type="e", data=data))
            await hub.drain()

        async def publish_awaited(data: Any) -> None:
            await bridge.publish(CHANNEL, Message(type="e", data=data))

        yield publish_awaited if awaited else publish
        assert bridge.state == BridgeState.UP


@asynccontextmanager
async def open_socketio(url: str, on_message: OnMessage | None) -> AsyncIterator[Publish]:
    import socketio

    manager = socketio.AsyncRedisManager(url)
    server = socketio.AsyncServer(client_manager=manager, async_mode="asgi")
    manager.set_server(server)
    manager.initialize()
    sid = await manager.connect("eio", "/")
    if on_message is not None:
        manager.basic_enter_room(sid, "/", CHANNEL)

        async def send(_: str, packet: Any) -> None:
            on_message(json.loads(packet.data[1:])[1])

        server._send_eio_packet = send
    await asyncio.sleep(0.5)
    yield lambda data: manager.emit("e", data, namespace="/", room=CHANNEL)
    manager.thread.cancel()


@asynccontextmanager
async def open_channels(
    url: str, on_message: OnMessage | None, backend: str
) -> AsyncIterator[Publish]:
    from channels.layers import BaseChannelLayer
    from channels_redis.core import RedisChannelLayer
    from channels_redis.pubsub import RedisPubSubChannelLayer

    kind = RedisPubSubChannelLayer if backend == "pubsub" else RedisChannelLayer
    options = {} if backend == "pubsub" else {"capacity": 1_000_000}
    # Without `socket_timeout`, redis-py 8 ends a receiver that waits 5 seconds for a message.
    layer: BaseChannelLayer = kind(hosts=[{"address": url, "socket_timeout": None}], **options)
    tasks = []
    if on_message is not None:
        name = await layer.new_channel()
        await layer.group_add(CHANNEL, name)

        async def receive() -> None:
            while True:
                on_message((await layer.receive(name))["data"])

        tasks.append(asyncio.create_task(receive()))
    await asyncio.sleep(0.5)
    yield lambda data: layer.group_send(CHANNEL, {"type": "e", "data": data})
    for task in tasks:
        task.cancel()
        # The layer unsubscribes when `receive` is cancelled, and needs the event loop for that.
        await asyncio.wait([task])


def open_kind(kind: str, url: str, on_message: OnMessage | None) -> Any:
    match kind:
        case "wshub" | "wshub, awaited":
            return open_wshub(url, on_message, awaited=kind != "wshub")
        case "python-socketio":
            return open_socketio(url, on_message)
        case _:
            return open_channels(url, on_message, "pubsub" if "pub" in kind else "core")


# The processes: each reads commands from standard input, one per line, and answers each command
# with lines of JSON.


async def commands() -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while line := await reader.readline():
        yield line.decode().strip()


async def publish(kind: str, url: str, messages: int, timed: int) -> None:
    async with open_kind(kind, url, None) as publish:
        async for command in commands():
            began, cpu = time.monotonic(), time.process_time()
            if command == "stream":
                for number in range(messages):
                    await publish([number, PADDING])
            else:
                for number in range(timed):
                    await publish([time.monotonic(), PADDING])
                    await asyncio.sleep(max(0, began + number / RATE - time.monotonic()))
            answer(began=began, cpu=time.process_time() - cpu)


async def receive(kind: str, url: str, messages: int, timed: int) -> None:
    received: list[tuple[float, Any]] = []
    async with open_kind(kind, url, lambda data: received.append((time.monotonic(), data[0]))) as _:
        async for command in commands():
            received.clear()
            cpu = time.process_time()
            answer(listening=True)
            expected = messages if command == "stream" else timed
            deadline = time.monotonic() + 120
            while len(received) < expected and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            spent = time.process_time() - cpu
            if command == "stream":
                in_order = [data for _, data in received] == list(range(messages))
                answer(ended=received[-1][0], cpu=spent, count=len(received), in_order=in_order)
            else:
                delays = sorted(when - data for when, data in received)
                answer(p50=delays[len(delays) // 2], p99=delays[len(delays) * 99 // 100])


async def idle(kind: str, url: str) -> None:
    async with open_kind(kind, url, None) as _:
        cpu = 0.0
        async for command in commands():
            if command == "begin":
                cpu = time.process_time()
            answer(cpu=time.process_time() - cpu)


def answer(**results: Any) -> None:
    print(json.dumps(results), flush=True)


class Role:
    """A child process with one of the three roles."""

    def __init__(self, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        results: dict[str, Any] = json.loads(self._process.stdout.readline())
        return results

    def ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)
        return self.read()

    def end(self) -> None:
        self._process.communicate()


def compare(kind: str, url: str, messages: int, timed: int) -> dict[str, float]:
    """Run one round of one kind: a stream of messages, then messages at a fixed rate."""
    receiver, bystander, publisher = (
        Role("receive", kind, url, messages, timed),
        Role("idle", kind, url),
        Role("publish", kind, url, messages, timed),
    )
    bystander.ask("begin")
    receiver.ask("stream")
    published = publisher.ask("stream")
    received = receiver.read()
    idled = bystander.ask("end")
    assert received["in_order"], (kind, received)
    receiver.ask("rate")
    publisher.ask("rate")
    latency = receiver.read()
    for role in (receiver, bystander, publisher):
        role.end()
    return {
        "messages a second": messages / (received["ended"] - published["began"]),
        "publisher µs": published["cpu"] / messages * 1e6,
        "receiver µs": received["cpu"] / messages * 1e6,
        "bystander µs": idled["cpu"] / messages * 1e6,
        "p50 ms": latency["p50"] * 1e3,
        "p99 ms": latency["p99"] * 1e3,
    }


async def measure_recovery(server: Any) -> float:
    """Kill the server and start it again; return the seconds until a message arrives."""
    arrived = asyncio.Event()
    async with Hub() as here, Hub() as there:
        bridges = RedisBridge(here, server.url), RedisBridge(there, server.url)
        async with bridges[0], bridges[1]:
            client = await connect(there)
            await there.subscribe(there.connections[0], CHANNEL)
            server.kill()
            await asyncio.sleep(1)
            server.start()
            await asyncio.to_thread(server.wait_ready)
            began = time.monotonic()
            client.note_message = lambda message: arrived.set()  # type: ignore[method-assign]
            while not arrived.is_set():
                here.publish(CHANNEL, Message(type="e"))
                await asyncio.sleep(0.005)
            return time.monotonic() - began


def report(rounds: dict[str, list[dict[str, float]]]) -> None:
    names = list(next(iter(rounds.values()))[0])
    print("| | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for kind, results in rounds.items():
        medians = [statistics.median(each[name] for each in results) for name in names]
        print(f"| {kind} | " + " | ".join(f"{median:,.2f}" for median in medians) + " |")


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in ("publish", "receive", "idle"):
        role, kind, url, *rest = sys.argv[1:]
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[0] if role == "publish" else cores[-1]})
        if role == "idle":
            asyncio.run(idle(kind, url))
        else:
            asyncio.run((publish if role == "publish" else receive)(kind, url, *map(int, rest)))
        return
    from redis_servers import run_server

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="messages per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of messages at 500 a second")
    parser.add_argument("--restarts", type=int, default=5, help="times to restart the server")
    arguments = parser.parse_args()
    timed = max(1, round(arguments.seconds * RATE))
    with run_server() as server:
        rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
        for _ in range(arguments.rounds):
            for kind in KINDS:
                rounds[kind].append(compare(kind, server.url, arguments.messages, timed))
        report(rounds)
        times = [asyncio.run(measure_recovery(server)) for _ in range(arguments.restarts)]
    print("first answer of the server to first message:", *(f"{each:.2f}" for each in times), "s")


if __name__ == "__main__":
    main()
