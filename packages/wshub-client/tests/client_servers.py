"""Real servers for the tests of the client, and a log of its callbacks."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support import eventually
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from wshub_client import ReconnectingClient
from wshub_core import Hub, Message

Handler = Callable[[ServerConnection], Awaitable[None]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test on asyncio's own loop and on uvloop, which the command line prefers."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
    with contextlib.suppress(ImportError):
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture
async def leave_nothing_behind() -> AsyncIterator[None]:
    yield
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub() as hub:
        yield hub


@pytest.fixture
async def url(hub: Hub) -> AsyncIterator[str]:
    async with hub.serve("127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.port}/ws"


class Log:
    """The calls of a client's callbacks, in order."""

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
    """Serve WebSockets; yield the address."""
    async with serve(handler, "127.0.0.1", 0, compression=None, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws"


@asynccontextmanager
async def tcp_server(handler: RawHandler) -> AsyncIterator[str]:
    """Serve TCP; yield the address in the form of a hub's address."""

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


def accept_upgrade(head: bytes) -> bytes:
    """Return the response to a handshake, and the pong that makes a client connected."""
    lines = head.decode().split("\r\n")
    [key] = [line[18:].strip() for line in lines if line.lower().startswith("sec-websocket-key:")]
    answer = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
    )
    return answer.encode() + text_frame('{"type":"pong"}')


def text_frame(text: str) -> bytes:
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def answer_pings(socket: ServerConnection) -> None:
    """Behave as the simplest hub: answer pings."""
    async for text in socket:
        if json.loads(text)["type"] == "ping":
            await socket.send('{"type":"pong"}')


async def refuse_secrets(socket: ServerConnection) -> None:
    """Behave as a hub that answers no ids and refuses channels that begin with ``secret``."""
    async for text in socket:
        frame = json.loads(text)
        if frame["type"] == "ping":
            await socket.send('{"type":"pong"}')
        elif frame["type"] == "subscribe" and frame["channel"].startswith("secret"):
            await socket.send('{"type":"error","data":"Subscribe: subscription unauthorised"}')


def event(data: Any) -> str:
    return json.dumps({"type": "event", "data": data})


async def run(client: ReconnectingClient) -> Exception | None:
    """Run a client to its end; return the error that has ended it."""
    try:
        await client.run()
    except Exception as error:
        return error
    return None


def has(entries: list[Any], entry: object, count: int) -> bool:
    return entries.count(entry) == count


def has_accepted(hub: Hub, count: int) -> bool:
    return hub.stats().connections == count


def has_dialled(dials: list[float], count: int) -> bool:
    return len(dials) == count


HELLO = Message(type="event", data="hello")

QUICK: dict[str, Any] = {"initial_backoff": 0.001, "max_backoff": 0.002, "open_timeout": 2.0}
"""Options of clients that reconnect without a noticeable wait."""
