"""Cost of messages that are published over HTTP, one by one and in batches.

    hatch run bench:api
    hatch run bench:api --seconds 5 --connections 32
    hatch run bench:api --centrifugo ~/go/bin/centrifugo

The server is `wshub serve --api-keys`, a process of its own, on uvloop if it is installed. The
client keeps its connections open, and sends the next request on a connection when the answer to the
one before has arrived. Nobody is subscribed, so that no delivery is part of the cost. The benchmark
reports messages per second, and the CPU time of the server for a request and for a message. With
`--centrifugo`, the API of that server is measured, too. The benchmark needs Linux.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from wshub_auth import hash_api_key

KEY = "a-key-of-the-benchmark"
DATA = {"text": "x" * 100, "number": 1}
BATCH = 100
WSHUB = "import sys; from wshub_core.cli.commands import main; sys.exit(main())"


class Kind(NamedTuple):
    """A request to measure.

    Attributes:
        name: The name in the table.
        path: The path.
        body: The body.
        headers: Further headers; {} in a value stands for a number that is new in each request.
        messages: Number of messages in the request.
    """

    name: str
    path: str
    body: Any
    headers: dict[str, str]
    messages: int = 1


WSHUB_HEADERS = {"Authorization": f"Bearer {KEY}"}
MESSAGE = {"channel": "news", "data": DATA}
WSHUB_KINDS = [
    Kind("wshub, single", "/api/v1/publish", MESSAGE, WSHUB_HEADERS),
    Kind(
        "wshub, with a key",
        "/api/v1/publish",
        MESSAGE,
        {**WSHUB_HEADERS, "Idempotency-Key": "message-{}"},
    ),
    Kind(
        f"wshub, {BATCH} at once",
        "/api/v1/publish_batch",
        {"messages": [MESSAGE] * BATCH},
        WSHUB_HEADERS,
        BATCH,
    ),
]
CENTRIFUGO_HEADERS = {"X-API-Key": KEY}
CENTRIFUGO_KINDS = [
    Kind("Centrifugo, single", "/api/publish", MESSAGE, CENTRIFUGO_HEADERS),
    Kind(
        f"Centrifugo, {BATCH} at once",
        "/api/batch",
        {"commands": [{"publish": MESSAGE}] * BATCH},
        CENTRIFUGO_HEADERS,
        BATCH,
    ),
]


@asynccontextmanager
async def run(
    *command: str, environment: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


@asynccontextmanager
async def serve_wshub(folder: Path) -> AsyncIterator[tuple[int, int]]:
    """Serve a hub; give the process id and the port."""
    keys = folder / "keys"
    keys.write_text(f"{hash_api_key(KEY)} [publish] benchmark\n")
    command = (sys.executable, "-c", WSHUB, "serve", "--port", "0", "--api-keys", str(keys))
    async with run(*command) as process:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().strip()
        yield process.pid, int(address.rsplit(":", 1)[1].strip("/"))


@asynccontextmanager
async def serve_centrifugo(binary: str) -> AsyncIterator[tuple[int, int]]:
    port = 18_000
    environment = {
        "CENTRIFUGO_HTTP_SERVER_PORT": str(port),
        "CENTRIFUGO_HTTP_API_KEY": KEY,
        "CENTRIFUGO_LOG_LEVEL": "error",
        "GOMAXPROCS": "1",
    }
    async with run(binary, environment=environment) as process:
        while True:
            try:
                _, writer = await asyncio.open_connection("localhost", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        yield process.pid, port


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def publish(kind: Kind, port: int, end: float) -> int:
    """Send requests on one connection until a time; return their number."""
    reader, writer = await asyncio.open_connection("localhost", port)
    body = json.dumps(kind.body).encode()
    head = f"POST {kind.path} HTTP/1.1\r\nHost: localhost:{port}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in kind.headers.items()) + "\r\n"
    number = 0
    while time.monotonic() < end:
        number += 1
        writer.write(head.replace("{}", f"{id(writer)}-{number}").encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        text = await reader.readexactly(length)
        assert b'"error"' not in text, text
    writer.close()
    await writer.wait_closed()
    return number


async def measure(
    kind: Kind, pid: int, port: int, connections: int, seconds: float
) -> tuple[float, float]:
    """Return messages per second, and the CPU time for a request in seconds."""
    before, began = cpu_seconds(pid), time.monotonic()
    numbers = await asyncio.gather(
        *(publish(kind, port, began + seconds) for _ in range(connections))
    )
    spent, elapsed = cpu_seconds(pid) - before, time.monotonic() - began
    return sum(numbers) * kind.messages / elapsed, spent / sum(numbers)


async def compare(arguments: argparse.Namespace, folder: Path) -> None:
    print(f"{'':26}{'messages/s':>12}{'µs/request':>12}{'µs/message':>12}")
    servers = [(serve_wshub(folder), WSHUB_KINDS)]
    if arguments.centrifugo:
        servers.append((serve_centrifugo(arguments.centrifugo), CENTRIFUGO_KINDS))
    for server, kinds in servers:
        async with server as (pid, port):
            for kind in kinds:
                rounds = [
                    await measure(kind, pid, port, arguments.connections, arguments.seconds)
                    for _ in range(arguments.rounds)
                ]
                rate, cpu = (statistics.median(each) for each in zip(*rounds, strict=True))
                per_message = cpu * 1e6 / kind.messages
                print(f"{kind.name:26}{rate:12,.0f}{cpu * 1e6:12,.0f}{per_message:12,.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of messages that are published over HTTP.")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--centrifugo", metavar="PATH", help="the binary of Centrifugo 6")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(parser.parse_args(), Path(folder)))


if __name__ == "__main__":
    main()
