"""`wshub serve --redis URL --workers N`: several processes on one port, as one hub."""

import asyncio
import json
import os
import re
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis_servers import RedisServer, find_free_port, run_server
from support import WSHUB, WireClient, eventually, wshub
from websockets.asyncio.client import connect

from wshub_core import HistoryLimits
from wshub_redis import RedisPublisher


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@asynccontextmanager
async def serve(redis: RedisServer, workers: int, *options: str) -> AsyncIterator[tuple[Any, str]]:
    """Serve; give the process and its address."""
    arguments = ("--port", "0", "--redis", redis.url, "--workers", str(workers), "--allow-publish")
    async with wshub("serve", *arguments, *options) as process:
        assert process.stdout is not None
        async with asyncio.timeout(40):
            address = (await process.stdout.readline()).decode().strip()
        assert re.fullmatch(r"http://localhost:\d+/", address)
        yield process, address


async def open_client(address: str) -> WireClient:
    url = f"{address.replace('http', 'ws')}ws"
    return WireClient(await connect(url, proxy=None, compression=None))


async def close(clients: list[WireClient]) -> None:
    await asyncio.gather(*(client.socket.close() for client in clients))


def workers_of(pid: int) -> list[int]:
    """Return the processes that serve; one more looks after what processes share."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(child) for child in file.read().split()]
    return [child for child in children if b"resource_tracker" not in command_of(child)]


def command_of(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def served_by(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}channels", timeout=10) as response:
        channels: list[dict[str, Any]] = json.load(response)["channels"]
        return {each["channel"]: each for each in channels}


async def wait_listed(
    address: str, expected: dict[str, tuple[int, str | None, int | None]]
) -> None:
    """Wait until every process lists these channels: messages, status and exit code of each."""
    streak = 0
    async with asyncio.timeout(30):
        # Whichever process answers, each time.
        while streak < 12:
            channels = await asyncio.to_thread(served_by, address)
            found = {
                name: (each["messages"], each["status"], each["exitCode"])
                for name, each in channels.items()
            }
            streak = streak + 1 if found == expected else 0


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
async def test_who_is_connected_to_any_worker_sees_everything(redis: RedisServer) -> None:
    async with serve(redis, 3) as (process, address):
        clients = [await open_client(address) for _ in range(24)]
        for client in clients:
            await client.subscribe("process:b")
        # The kernel gives each connection to whichever is free.
        assert len(workers_of(process.pid)) == 3
        for number, client in enumerate(clients):
            await client.send(
                type="process_output", channel="process:b", processId="b", data=f"line {number}"
            )
        expected = {f"line {number}" for number in range(24)}
        for client in clients:
            assert {(await client.receive())["data"] for _ in clients} == expected
        await clients[0].send(
            type="process_status",
            channel="process:b",
            data={"status": "exited", "exitCode": 3},
        )
        for client in clients:
            assert (await client.receive())["data"]["status"] == "exited"
        # The list of the page is the same, whoever answers.
        await wait_listed(address, {"process:b": (25, "exited", 3)})
        await close(clients)


@linux
async def test_what_a_worker_without_a_hub_publishes_is_listed_by_every_process(
    redis: RedisServer,
) -> None:
    async with serve(redis, 3) as (_, address):
        with RedisPublisher(redis.url) as publisher:
            publisher.send_process_status("job", "running")
            for number in range(10):
                publisher.send_process_output("job", f"line {number}")
            publisher.send_process_status("job", "exited", 4)
        await wait_listed(address, {"process:job": (12, "exited", 4)})
        # A page that is open at one of them follows it, and reads the lines before in the history.
        history = {"process:*": HistoryLimits()}
        with RedisPublisher(redis.url, history=history) as publisher:
            for number in range(3):
                publisher.send_process_output("job", f"more {number}")
            clients = [await open_client(address) for _ in range(12)]
            for number, client in enumerate(clients):
                frame = {"type": "subscribe", "channel": "process:job", "id": number}
                await client.send(**frame, history={"since": 0})
            for client in clients:
                while (await client.receive())["type"] != "subscribed":
                    pass
            publisher.send_process_output("job", "live")
        for client in clients:
            received = [(await client.receive())["data"] for _ in range(4)]
            assert received == ["more 0", "more 1", "more 2", "live"]
        await close(clients)


@linux
@pytest.mark.parametrize("is_service", [False, True])
async def test_workers_drain_after_sigterm(redis: RedisServer, is_service: bool) -> None:
    async with serve(redis, 2, "--drain-window", "2") as (process, address):
        clients = [await open_client(address) for _ in range(40)]
        workers = workers_of(process.pid)
        # A service manager sends the signal to all processes of a service.
        for pid in [process.pid, *(workers if is_service else ())]:
            os.kill(pid, signal.SIGTERM)
        began = asyncio.get_running_loop().time()
        ends = []
        for client in clients:
            await client.socket.wait_closed()
            ends.append((client.socket.close_code, client.socket.close_reason))
        assert ends == [(1012, "retry-after: 0")] * 40
        assert asyncio.get_running_loop().time() - began > 1
        assert await process.wait() == 0
        running = {each.name for each in Path("/proc").iterdir()}  # noqa: ASYNC240 - no disk
        assert not running & {str(pid) for pid in workers}


@linux
@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,)])
async def test_workers_end_at_once(redis: RedisServer, numbers: tuple[signal.Signals]) -> None:
    async with serve(redis, 2, "--drain-window", "600") as (process, address):
        clients = [await open_client(address) for _ in range(40)]
        for position, number in enumerate(numbers, 1):
            process.send_signal(number)
            # The first signal begins the drain, which closes a connection at once. Two signals in
            # quick succession would count as one.
            if position < len(numbers):
                waiting = {asyncio.create_task(each.socket.wait_closed()) for each in clients}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for client in clients:
            await client.socket.wait_closed()
        codes = [client.socket.close_code for client in clients]
        assert codes.count(1001) >= 35
        assert await process.wait() == 130


async def open_silent_client(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection whose client never answers the close."""
    port = int(address.rstrip("/").rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = (
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    writer.write(request.encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader, writer


async def test_workers_wait_for_clients_as_long_as_one_process(redis: RedisServer) -> None:
    # Longer than the time that workers have with the default of 10 seconds.
    options = ("--close-timeout", "21", "--access-log")
    async with serve(redis, 2, *options) as (process, address):
        reader, writer = await open_silent_client(address)
        process.terminate()
        assert b"server shutdown" in await reader.read()
        _, errors = await process.communicate()
        # A worker that is killed logs no end.
        assert b": server_closed, code 1001" in errors
        assert process.returncode == 130
        writer.close()


@linux
async def test_a_worker_that_dies_is_replaced(redis: RedisServer) -> None:
    async with serve(redis, 2) as (process, address):
        first = workers_of(process.pid)
        client = await open_client(address)
        await client.send(type="event", channel="news", data=1)
        await client.send(
            type="process_status", channel="process:b", data={"status": "exited", "exitCode": 1}
        )
        await client.sync()
        expected = {"news": (1, None, None), "process:b": (1, "exited", 1)}
        await wait_listed(address, expected)
        os.kill(first[0], signal.SIGKILL)
        async with asyncio.timeout(30):
            errors = (await process.stderr.readline()).decode()
        assert f"worker {first[0]} has ended with -9, starting another" in errors
        # Both serve, and the new one has learned what was published before it was there.
        await wait_listed(address, expected)
        clients = [await open_client(address) for _ in range(8)]
        for each in clients:
            await each.subscribe("news")
        await clients[0].send(type="event", channel="news", data="all")
        for each in clients:
            assert (await each.receive())["data"] == "all"
        await close([*clients, client])


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_no_worker_is_left_behind(redis: RedisServer, number: signal.Signals) -> None:
    async with serve(redis, 2) as (process, address):
        clients = [await open_client(address) for _ in range(6)]
        workers = workers_of(process.pid)
        process.send_signal(number)
        for client in clients:
            async with asyncio.timeout(20):
                await client.socket.wait_closed()
            # They are told to come back elsewhere, even if the parent could not say goodbye.
            assert client.socket.close_code == 1001
        await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        status = await process.wait()
        assert status == (-9 if number == signal.SIGKILL else 130)
        if number != signal.SIGKILL:
            assert (await process.stderr.read()).decode() == ""


async def test_one_process_joins_others_as_well(redis: RedisServer) -> None:
    async with serve(redis, 1) as (_, one), serve(redis, 1) as (_, other):
        here, there = await open_client(one), await open_client(other)
        await there.subscribe("news")
        await here.send(type="event", channel="news", data="hello")
        assert (await there.receive())["data"] == "hello"
        await close([here, there])


NO_REDIS = "import sys; sys.modules['wshub_redis'] = None; " + WSHUB


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (WSHUB, ("--workers", "2"), "several workers need redis"),
        (WSHUB, ("--workers", "0"), "must be 1 to 1000"),
        (WSHUB, ("--redis", "localhost:6379"), "invalid redis URL: use redis://"),
        (WSHUB, ("--redis", "localhost:6379", "--workers", "2"), "invalid redis URL: use redis://"),
        (NO_REDIS, ("--redis", "redis://x"), "needs the package wshub-redis"),
        (NO_REDIS, ("--redis", "redis://x", "--workers", "2"), "needs the package wshub-redis"),
    ],
)
async def test_a_mistake_is_one_clear_line(
    code: str, arguments: tuple[str, ...], message: str
) -> None:
    async with wshub("serve", "--port", "0", *arguments, code=code) as process:
        async with asyncio.timeout(40):
            output, errors = await process.communicate()
        assert process.returncode == 1
        assert output == b""
        assert errors.decode().startswith("wshub: ")
        assert message in errors.decode()
        assert errors.count(b"\n") == 1


@pytest.mark.parametrize("workers", ["1", "3"])
async def test_a_redis_that_is_not_there_is_one_clear_line(workers: str) -> None:
    url = f"redis://:secret@127.0.0.1:{find_free_port()}"
    async with wshub("serve", "--port", "0", "--redis", url, "--workers", workers) as process:
        async with asyncio.timeout(40):
            output, errors = await process.communicate()
        assert (process.returncode, output) == (1, b"")
        assert re.fullmatch(
            r"wshub: cannot connect to redis at 127\.0\.0\.1:\d+: .*\n", errors.decode()
        )
        assert "secret" not in errors.decode()
