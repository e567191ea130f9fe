"""The demo as a process, for the tests that look at it from outside."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

DEMO = Path(__file__).parents[1] / "docs/examples/demo.py"


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Demo:
    """A running demo."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def interrupt(self) -> tuple[int | None, str, str]:
        """Press Ctrl-C; return the exit status and what it printed on both pipes."""
        self._process.send_signal(signal.SIGINT)
        return await self.finish()

    async def finish(self) -> tuple[int | None, str, str]:
        async with asyncio.timeout(30):
            output, errors = await self._process.communicate()
        return self._process.returncode, output.decode(), errors.decode()

    async def wait_ready(self) -> None:
        """Wait until it has printed its address."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            assert b"http://localhost:" in await self._process.stdout.readline()


@asynccontextmanager
async def start_demo(port: int, *command: str) -> AsyncIterator[Demo]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(DEMO),
        *command,
        env={**os.environ, "PORT": str(port)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Demo(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
