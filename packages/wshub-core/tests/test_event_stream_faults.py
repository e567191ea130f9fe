"""Event streams with slow callbacks, slow readers, lost messages and requests of foreign pages."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sse_client import open_stream

from wshub_core import Connection, HistoryLimits, Hub, HubConfig


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[Hub, int]]:
    """Run a hub and its server, which answers HTTP with event streams."""
    async with (
        Hub(HubConfig(**{"close_timeout": 3.0, **settings})) as hub,
        hub.serve("127.0.0.1", 0, http_app=hub.sse()) as server,
    ):
        yield hub, server.port


class SlowReader:
    """A request whose client takes one part of the response at a time.

    Attributes:
        parts: The parts of the body that the server has written.
        head: The first event of the response.
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.head: Any = None
        self._takes = asyncio.Semaphore(0)

    def take(self, count: int = 1) -> None:
        """Take further parts."""
        for _ in range(count):
            self._takes.release()

    @property
    def messages(self) -> list[Any]:
        """The messages and the close of the stream."""
        lines = b"".join(self.parts).split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]

    @asynccontextmanager
    async def ask(self, hub: Hub, query: str) -> AsyncIterator[None]:
        """Send the request; end it at the end of the block."""
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        app = hub.sse()({**scope, "query_string": query.encode()}, self._receive, self._send)
        task = asyncio.ensure_future(app)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _receive(self) -> Any:
        await asyncio.Event().wait()

    async def _send(self, event: Any) -> None:
        if event["type"] == "http.response.start":
            self.head = event
        elif body := event.get("body"):
            self.parts.append(body)
            await self._takes.acquire()


class Gate:
    """A channel authorizer that refuses some channels, and lets others wait until it is opened."""

    def __init__(self, refused: str = "secret", slow: str = "slow") -> None:
        self.refused = refused
        self.slow = slow
        self.asked = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, connection: Connection, channel: str) -> bool:
        if channel == self.slow:
            self.asked.set()
            await self.opened.wait()
        return channel != self.refused


# Channels that are refused.


@pytest.mark.parametrize("entry", ["0", "other:5"])
async def test_the_application_subscribes_a_client_to_a_refused_channel(entry: str) -> None:
    gate = Gate()
    async with serving(channel_authorizer=gate, history={"*": HistoryLimits()}) as (hub, port):
        hub.publish_event("secret", "old")
        async with open_stream(port, "a", "secret", query={"last_event_id": f",{entry}"}) as stream:
            assert [each["type"] for each in await stream.messages(2)] == ["subscribed", "error"]
            (connection,) = hub.connections
            gate.refused = ""
            await hub.subscribe(connection, "secret")
            hub.publish_event("secret", 1)
            hub.publish_event("secret", 2)
            assert await stream.data(2) == [1, 2]
            assert stream.last_id.endswith(":3")
