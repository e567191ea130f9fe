"""Servers that a client may meet, all real, and what a client has been told."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from wshub_client import ReconnectingClient
from wshub_core import Message

Handler = Callable[[ServerConnection], Awaitable[None]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Log:
    """Writes down what a client is told, in order."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.errors: list[Exception] = []

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_connect": lambda: self.entries.append("connect"),
            "on_reconnect": lambda dials: self.entries.append(("reconnect", dials)),
            "on_disconnect": lambda: self.entries.append("disconnect"),
            "on_error": self.note_error,
            "on_message": lambda message: self.entries.append(message.data),
        }

    def note_error(self, error: Exception) -> None:
        self.errors.append(error)
        self.entries.append(type(error).__name__)


@asynccontextmanager
async def websocket_server(handler: Handler, **options: Any) -> AsyncIterator[str]:
    """Serve WebSockets; give the address."""
    async with serve(handler, "127.0.0.1", 0, compression=None, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws"


@asynccontextmanager
async def tcp_server(handler: RawHandler) -> AsyncIterator[str]:
    """Serve TCP; give the address as if it were a hub's."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"


async def answer_pings(socket: ServerConnection) -> None:
    """Behave as the simplest hub that a client can be connected to."""
    async for text in socket:
        if json.loads(text)["type"] == "ping":
            await socket.send('{"type":"pong"}')


def event(data: Any) -> str:
    return json.dumps({"type": "event", "data": data})


async def run(client: ReconnectingClient) -> Exception | None:
    """Run a client to its end; return what ended it."""
    try:
        await client.run()
    except Exception as error:
        return error
    return None


HELLO = Message(type="event", data="hello")
