"""Helpers of the tests: a client for the wire format, a served hub, and ways to wait."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect

from wshub_core import Hub, Server
from wshub_core.logs import throttle
from wshub_core.transports.native import NativeTransport

WSHUB = "import sys; from wshub_core.cli.commands import main; sys.exit(main())"
"""Code of the ``wshub`` command. It also works if the command is not on the path."""


PATIENCE_SECONDS = 30.0
"""The longest wait for an event; only a failing test waits that long."""


@pytest.fixture(autouse=True)
def fresh_logs() -> None:
    """Reset the throttle of the log, so that records of earlier tests do not count."""
    throttle.reset()


class WireClient:
    """A plain client, as in any language: JSON over a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def receive(self) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return json.loads(await self.socket.recv())

    async def sync(self) -> None:
        """Wait until the hub has served all sent frames; no other message may be under way."""
        await self.send(type="ping")
        assert (await self.receive())["type"] == "pong"

    async def subscribe(self, channel: str) -> None:
        await self.send(type="subscribe", channel=channel)
        await self.sync()


class Served:
    """A hub and its server, with a method to connect clients."""

    def __init__(self, hub: Hub, server: Server, stack: AsyncExitStack) -> None:
        self.hub = hub
        self.server = server
        self._stack = stack

    @property
    def sockets(self) -> tuple[NativeTransport, ...]:
        """The accepted sockets that are not closed."""
        accepted = self.server._accepted
        return () if accepted is None else cast("tuple[NativeTransport, ...]", tuple(accepted.open))

    async def connect(self, query: str = "", **options: Any) -> WireClient:
        options = {"proxy": None, "compression": None, **options}
        socket = await self._stack.enter_async_context(
            connect(f"ws://127.0.0.1:{self.server.port}/ws{query}", **options)
        )
        return WireClient(socket)


Serve = Callable[..., Awaitable[Served]]


def present(hub: Hub) -> tuple[int, int, int]:
    """Return the numbers of clients, channels and subscriptions."""
    stats = hub.stats()
    return stats.clients, stats.channels, stats.subscribers


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Read until the peer has closed the connection, cleanly or with a reset."""
    data = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        with contextlib.suppress(ConnectionResetError):
            while chunk := await reader.read(65_536):
                data += chunk
    return data


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition becomes true."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)


@asynccontextmanager
async def wshub(*arguments: str, code: str = WSHUB) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command in a child process; kill the process at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        # A child of the process may keep the pipes open.
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.communicate()
