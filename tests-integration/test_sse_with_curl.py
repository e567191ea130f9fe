"""The commands of the guide to event streams, with the real curl and the real commands."""

import asyncio
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from demo_process import free_port
from support import WSHUB

GUIDE = Path(__file__).parents[1] / "docs/howto/server-sent-events.md"


def commands(port: int) -> list[list[str]]:
    """Return the commands of the guide, in order, for a port."""
    lines = re.findall(r"^\$ (.+)$", GUIDE.read_text(), re.M)
    return [shlex.split(line.replace("8080", str(port))) for line in lines]


@asynccontextmanager
async def running(command: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    if command[0] == "wshub":
        command = [sys.executable, "-c", WSHUB, *command[1:]]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def messages(curl: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    """Yield the messages that curl prints, as it prints them."""
    assert curl.stdout is not None
    async with asyncio.timeout(30):
        while line := await curl.stdout.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


async def follow(curl: asyncio.subprocess.Process) -> list[object]:
    """Return the lines of the process until its exit."""
    lines = []
    async for message in messages(curl):
        if message["type"] == "process_output":
            lines.append(message["data"])
        elif message["type"] == "process_status" and message["data"]["status"] == "exited":
            return lines
    raise AssertionError(f"curl has ended after {lines}")


async def test_curl_follows_a_build() -> None:
    serve, run, curl, curl_from_start = commands(free_port())
    assert [serve[1], run[1], curl[0], curl_from_start[0]] == ["serve", "run", "curl", "curl"]
    run[run.index("--") + 1 :] = ["sh", "-c", "echo compiling; echo linking >&2; echo done"]
    async with running(serve) as hub:
        assert hub.stdout is not None
        await hub.stdout.readline()
        async with running(["curl", "-s", *curl[1:]]) as following:
            async for message in messages(following):
                assert message["type"] == "subscribed"
                break
            async with running(run) as build:
                lines = await follow(following)
                assert sorted(map(str, lines)) == ["compiling", "done", "linking"]
                assert await build.wait() == 0
        # Later, from the history.
        async with running(["curl", "-s", *curl_from_start[1:]]) as following:
            assert await follow(following) == lines
