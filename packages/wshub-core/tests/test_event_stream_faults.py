"""Event streams with slow callbacks, slow readers, lost messages and requests of foreign pages."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sse_client import open_stream
from support import eventually, present

from wshub_core import AuthResult, Connection, HistoryLimits, Hub, HubConfig
from wshub_core.testing import ManualClock


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

    async def take_all(self, connection: Connection) -> None:
        """Take parts until nothing waits for the client."""
        while connection.waiting_bytes:
            if self._takes.locked():
                self.take()
            await asyncio.sleep(0)

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


# Authorizers that are slow.


async def test_a_stream_begins_with_the_first_accepted_channel() -> None:
    gate = Gate()
    async with (
        serving(channel_authorizer=gate, open_timeout=3_600.0) as (hub, port),
        open_stream(port, "secret", "a", "slow") as stream,
    ):
        assert stream.status == 200
        answers = await stream.messages(2)
        assert [each["type"] for each in answers] == ["error", "subscribed"]
        hub.publish_event("a", 1)
        assert await stream.data(1) == [1]
        gate.opened.set()
        (answer,) = await stream.messages(1)
        assert (answer["type"], answer["channel"]) == ("subscribed", "slow")


async def test_a_stream_of_broadcasts_does_not_wait_for_on_connect() -> None:
    opened = asyncio.Event()

    async def on_connect(connection: Connection) -> None:
        await opened.wait()

    async with (
        serving(on_connect=on_connect, open_timeout=3_600.0) as (hub, port),
        open_stream(port) as stream,
    ):
        hub.send_event("hello")
        assert (await stream.messages(1))[0]["data"]["event"] == "hello"
        opened.set()


async def test_the_write_timeout_begins_with_the_response() -> None:
    gate, clock, reader = Gate(), ManualClock(), SlowReader()
    config = HubConfig(channel_authorizer=gate, open_timeout=3_600.0, pong_timeout=1_000.0)
    async with Hub(config, clock=clock) as hub:
        async with reader.ask(hub, "channel=secret&channel=slow"):
            await gate.asked.wait()
            for _ in range(20):
                clock.advance(5)
                await asyncio.sleep(0.001)
            assert not reader.parts
            gate.opened.set()
            await eventually(lambda: len(reader.parts) == 1)
            assert reader.head["status"] == 200
            assert hub.stats().evictions == 0
            # The client takes no bytes of the response.
            clock.advance(11)
            await eventually(lambda: hub.measure().evictions["write_timeout"] == 1)
        assert present(hub) == (0, 0, 0)


@pytest.mark.parametrize("channels", [["slow"], ["secret", "slow"]])
async def test_without_an_answer_in_time_a_client_comes_again(channels: list[str]) -> None:
    async with serving(channel_authorizer=Gate(), open_timeout=0.2, close_timeout=0.2) as (
        hub,
        port,
    ):
        async with open_stream(port, *channels) as stream:
            assert stream.status == 503
            assert stream.headers["retry-after"] == "5"
            refusals = await stream.messages(len(channels) - 1)
            assert [each["channel"] for each in refusals] == channels[:-1]
            assert await stream.next() is None
        await eventually(lambda: present(hub) == (0, 0, 0))


async def test_a_close_during_the_authorization_is_told() -> None:
    gate = Gate()
    async with serving(channel_authorizer=gate, open_timeout=3_600.0, close_timeout=0.5) as (
        hub,
        port,
    ):

        async def close() -> None:
            await gate.asked.wait()
            (connection,) = hub.connections
            await connection.close(4001, "no time")

        closing = asyncio.create_task(close())
        async with open_stream(port, "slow") as stream:
            assert stream.status == 200
            assert await stream.messages(1) == [{"code": 4001, "reason": "no time"}]
        await closing


# Clients that read slowly.


@pytest.mark.parametrize("is_page", [False, True])
async def test_a_slow_and_steady_reader_stays_connected(is_page: bool) -> None:
    clock, reader = ManualClock(), SlowReader()
    config = HubConfig(
        history={"*": HistoryLimits()},
        max_message_bytes=1_000_000,
        pong_timeout=100_000.0,
        heartbeat_interval=1_000.0,
    )
    async with Hub(config, clock=clock) as hub:
        if is_page:
            for _ in range(200):
                hub.publish_event("a", "x" * 1_000)
        async with reader.ask(hub, "channel=a&last_event_id=0"):
            await eventually(lambda: reader.parts != [])
            (connection,) = hub.connections
            if not is_page:
                await reader.take_all(connection)
                reader.parts.clear()
                hub.publish_event("a", "x" * 200_000)
                await eventually(lambda: reader.parts != [])
            while sum(map(len, reader.parts)) < 200_000:
                count = len(reader.parts)
                # One part in each write timeout of 10 seconds.
                clock.advance(9)
                reader.take()
                await eventually(lambda count=count: len(reader.parts) > count)  # type: ignore[misc]
            assert hub.stats().evictions == 0
            assert max(map(len, reader.parts)) <= 32_768
            await reader.take_all(connection)
            assert connection in hub.connections


# Messages that are missing.


async def test_behind_a_gap_come_the_messages_that_have_no_history() -> None:
    reader = SlowReader()
    config = HubConfig(
        history={"h": HistoryLimits(), "k": HistoryLimits()},
        overflow="drop_oldest",
        max_outbox_bytes=66_000,
        max_message_bytes=60_000,
    )
    async with Hub(config) as hub:
        async with reader.ask(hub, "channel=h&channel=k&channel=n"):
            await eventually(lambda: reader.parts != [])
            (connection,) = hub.connections
            await reader.take_all(connection)
            assert len(reader.messages) == 3
            hub.publish_event("h", 1)
            await eventually(lambda: len(reader.messages) == 4)
            for number in (2, 3, 4):
                hub.publish_event("h", f"{number}" * 30_000)
            hub.publish_event("k", "kept")
            hub.publish_event("n", "live")
            hub.send_event("everybody")
            hub.publish_event("h", 5)
            reader.take(100)
            await eventually(lambda: connection not in hub.connections)
            assert connection.dropped_messages == 1
        *messages, close = reader.messages
        assert [each.get("data") for each in messages if each["type"] == "event"] == [
            1,
            "kept",
            "live",
            {"data": None, "event": "everybody"},
        ]
        assert close == {"code": 1013, "reason": "messages are missing"}


# Requests of pages.


@pytest.mark.parametrize(
    ("site", "settings", "status"),
    [
        ("cross-site", {}, 403),
        ("same-site", {}, 403),
        ("cross-site", {"allowed_origins": ["https://app.example"]}, 403),
        ("cross-site", {"allowed_origins": ["*"]}, 200),
        ("same-origin", {"require_origin": True}, 200),
        ("none", {"require_origin": True}, 200),
        (None, {}, 200),
        (None, {"require_origin": True}, 403),
    ],
)
async def test_a_request_without_an_origin(
    site: str | None, settings: dict[str, Any], status: int
) -> None:
    seen: list[str] = []

    def authenticate(_: object) -> AuthResult:
        seen.append("cookie")
        return AuthResult(True, "victim")

    async with serving(authenticator=authenticate, **settings) as (hub, port):
        headers = {"Cookie": "session=1"} | ({} if site is None else {"Sec-Fetch-Site": site})
        async with open_stream(port, "a", headers=headers) as stream:
            assert stream.status == status
            assert bool(seen) is (status == 200)
        assert hub.stats().refused_handshakes == (status == 403)
