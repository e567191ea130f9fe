"""Servers for the contract: real hubs, and servers whose answers a test writes."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from client_contract.interface import ClientUnderTest
from client_contract.observing import named, wait_event
from wshub_auth import BearerTokenAuth, FirstOf, SubprotocolTokenAuth
from wshub_core import V1_SUBPROTOCOL, AuthResult, Connection, Hub, HubConfig, Request


class RunningHub:
    """A hub with a server, and its connections in the order of their acceptance."""

    def __init__(self, hub: Hub, port: int, connections: list[Connection]) -> None:
        self.hub = hub
        self.url = f"ws://127.0.0.1:{port}/ws"
        self.connections = connections

    async def drop(self, code: int = 1012) -> None:
        """Close the newest connection."""
        await self.connections[-1].close(code)

    async def sync(self, client: ClientUnderTest) -> None:
        """Wait until the hub has served all frames of the client."""
        before = len(named(await client.events(), "message"))
        await client.send({"type": "ping"})
        await wait_event(client, "message", before + 1)


@asynccontextmanager
async def run_hub(port: int = 0, **settings: Any) -> AsyncIterator[RunningHub]:
    """Serve a real hub, which accepts pages of any origin."""
    connections: list[Connection] = []
    config = HubConfig(
        **{
            "allowed_origins": ["*"],
            "on_connect": connections.append,
            "close_timeout": 2,
            **settings,
        }
    )
    async with Hub(config) as hub, hub.serve("127.0.0.1", port) as server:
        yield RunningHub(hub, server.port, connections)


def take_tokens(
    presented: list[str], ends: dict[str, float] | None = None
) -> Callable[[Request], Awaitable[AuthResult]]:
    """Return an authenticator that accepts every token.

    Args:
        presented: The list to which the authenticator appends the tokens.
        ends: The lifetimes of tokens that expire, in seconds.
    """

    def validate(token: str) -> AuthResult:
        presented.append(token)
        lifetime = (ends or {}).get(token)
        expires_at = None if lifetime is None else time.time() + lifetime
        return AuthResult(True, "alice", expires_at=expires_at)

    return FirstOf(BearerTokenAuth(validate), SubprotocolTokenAuth(validate))


class Peer:
    """One connection of a client, as a server sees it whose answers a test writes."""

    def __init__(self, number: int, socket: ServerConnection) -> None:
        self.number = number
        self.socket = socket
        self.frames: list[dict[str, Any]] = []

    async def read(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.socket.recv())
        self.frames.append(frame)
        return frame

    async def read_to_ping(self) -> list[dict[str, Any]]:
        """Return all frames up to the next ping, including the ping."""
        frames = [await self.read()]
        while frames[-1]["type"] != "ping":
            frames.append(await self.read())
        return frames

    async def send(self, *frames: dict[str, Any]) -> None:
        """Send frames in one WebSocket message, as hubs of go-ws do."""
        await self.socket.send("\n".join(map(json.dumps, frames)))

    async def open(self) -> None:
        """Answer the first ping, so that the client is connected."""
        await self.read_to_ping()
        await self.send({"type": "pong"})

    async def serve(self) -> None:
        """Answer all pings until the connection ends."""
        while True:
            if (await self.read())["type"] == "ping":
                await self.send({"type": "pong"})

    async def stay_silent(self) -> None:
        """Read frames, and answer none, until the connection ends."""
        while True:
            await self.read()


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


class ScriptedServer:
    """A server whose answers a test writes, and its connections in order."""

    def __init__(self) -> None:
        self.url = ""
        self.peers: list[Peer] = []
        self.most_at_once = 0
        self.dialed_at: list[float] = []


@asynccontextmanager
async def run_script(
    script: Script, port: int = 0, *, plain: bool = False
) -> AsyncIterator[ScriptedServer]:
    """Serve connections with a script; close a connection with 1000 when its script ends.

    Args:
        script: The coroutine function for each connection.
        port: The port; 0 for any port that is free.
        plain: Whether the server selects no subprotocol, as hubs of go-ws do.
    """
    scripted = ScriptedServer()
    open_now = 0

    async def handle(socket: ServerConnection) -> None:
        nonlocal open_now
        open_now += 1
        scripted.most_at_once = max(scripted.most_at_once, open_now)
        scripted.dialed_at.append(time.monotonic())
        peer = Peer(len(scripted.peers) + 1, socket)
        scripted.peers.append(peer)
        try:
            with contextlib.suppress(ConnectionClosed):
                await script(peer)
                await socket.close()
        finally:
            open_now -= 1

    def select(_: ServerConnection, offered: Any) -> Any:
        return V1_SUBPROTOCOL if V1_SUBPROTOCOL in offered and not plain else None

    async with serve(
        handle,
        "127.0.0.1",
        port,
        select_subprotocol=select,
        close_timeout=1,
        compression=None,
        ping_interval=None,
    ) as server:
        scripted.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        yield scripted
        # `websockets` does not close connections that are accepted while the server closes.
        server.server.close()
        await asyncio.sleep(0.01)


async def serve_normally(peer: Peer) -> None:
    await peer.open()
    await peer.serve()
