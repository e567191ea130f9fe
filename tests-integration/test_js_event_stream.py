"""The JavaScript client behind proxies that block WebSockets: it falls back to the event stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from client_contract.interface import QUICK
from client_contract.observing import (
    eventually,
    failure_of,
    messages_of,
    named,
    names,
    wait_event,
    wait_until,
)
from client_contract.servers import take_tokens
from js_clients import JSClient
from js_fixtures import client as client
from js_fixtures import running_client as running_client
from websockets.asyncio.client import connect

from wshub_auth import SubprotocolTokenAuth
from wshub_core import AuthResult, Connection, HistoryLimits, Hub, HubConfig, Message

pytestmark = pytest.mark.asyncio(loop_scope="module")

HISTORY = {"a*": HistoryLimits()}


class Site:
    """A hub with an event stream, and the connections of a proxy in front."""

    def __init__(self, hub: Hub, port: int) -> None:
        self.hub = hub
        self.port = port
        self.connections: list[Connection] = []
        self.upgrades = 0
        self.is_blocking = True
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def options(self) -> dict[str, Any]:
        return {"sse": f"http://127.0.0.1:{self.port}/sse", **QUICK}

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def publish(self, channel: str, *data: object) -> None:
        for item in data:
            self.hub.publish(channel, Message(type="event", data=item))

    def cut(self) -> None:
        """Cut all connections of the proxy."""
        for writer in self._writers:
            writer.transport.abort()

    async def forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hub_port: int, how: str
    ) -> None:
        """Forward a connection; answer an upgrade with 403, or cut it, or swallow its frames."""
        hub_writer = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                self.upgrades += 1
                if self.is_blocking and how == "403":
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                if self.is_blocking and how != "frames":
                    return
            hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", hub_port)
            self._writers |= {writer, hub_writer}
            hub_writer.write(head)
            is_swallowed = self.is_blocking and b"upgrade: websocket" in head.lower()
            both = [
                asyncio.create_task(_copy(hub_reader, writer)),
                asyncio.create_task(_copy(reader, None if is_swallowed else hub_writer)),
            ]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        finally:
            for each in (writer, hub_writer):
                if each is not None:
                    self._writers.discard(each)
                    each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    while data := await reader.read(65_536):
        if writer is not None:
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def run_site(how: str = "403", **settings: Any) -> AsyncIterator[Site]:
    connections: list[Connection] = []
    config: dict[str, Any] = {
        "allowed_origins": ["*"],
        "close_timeout": 2,
        "on_connect": connections.append,
        "history": HISTORY,
        **settings,
    }
    async with (
        Hub(HubConfig(**config)) as hub,
        hub.serve("127.0.0.1", 0, http_app=hub.sse()) as server,
    ):
        site = Site(hub, 0)
        site.connections = connections

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await site.forward(reader, writer, server.port, how)

        proxy = await asyncio.start_server(forward, "127.0.0.1", 0)
        site.port = proxy.sockets[0].getsockname()[1]
        yield site
        proxy.close()
        site.cut()


@pytest.mark.parametrize("how", ["403", "cut", "frames"])
async def test_a_client_falls_back_and_recovers(client: JSClient, how: str) -> None:
    async with run_site(how) as site:
        site.publish("a", 1, 2)
        await client.start(site.url, **site.options, open_timeout=1)
        await client.subscribe_confirmed("a", since=0)
        await wait_event(client, "connect")
        assert await client.transport() == "sse"
        assert site.upgrades == 2
        assert await messages_of(client, 2) == [1, 2]
        site.publish("a", 3)
        assert await messages_of(client, 3) == [1, 2, 3]
        site.cut()
        site.publish("a", 4)
        await wait_event(client, "reconnect")
        site.publish("a", 5)
        assert await messages_of(client, 5) == [1, 2, 3, 4, 5]
        assert named(await client.events(), "gap") == []
        # The stream has worked before, so the client did not try a WebSocket again.
        assert site.upgrades == 2
        assert await client.transport() == "sse"


async def test_a_new_subscription_loses_no_message_of_a_history(client: JSClient) -> None:
    count = 300
    async with run_site() as site:
        await client.start(site.url, **site.options, fallback_after=0)
        await client.subscribe("a0")
        await wait_event(client, "connect")
        assert site.upgrades == 0

        async def publish() -> None:
            for number in range(count):
                site.publish("a0", number)
                await asyncio.sleep(0.002)

        publishing = asyncio.create_task(publish())
        for number in range(1, 6):
            await asyncio.sleep(0.08)
            await client.subscribe_confirmed(f"a{number}")
        await client.unsubscribe("a1")
        await publishing
        assert await messages_of(client, count) == list(range(count))
        await wait_until(lambda: "a1" not in site.hub.channels and len(site.hub.channels) == 5)
        assert named(await client.events(), "gap") == []
        assert named(await client.events(), "error") == []


async def test_a_client_that_had_a_websocket_does_not_fall_back(client: JSClient) -> None:
    async with run_site() as site:
        site.is_blocking = False
        await client.start(site.url, **site.options)
        await wait_event(client, "connect")
        assert await client.transport() == "websocket"
        site.is_blocking = True
        site.cut()
        await wait_event(client, "error", 5)
        assert await client.transport() == "websocket"
        site.is_blocking = False
        await wait_event(client, "reconnect")
        assert await client.transport() == "websocket"


async def test_refused_channels_leave_the_others(client: JSClient) -> None:
    async with run_site(channel_authorizer=lambda _, channel: channel != "secret") as site:
        await client.start(site.url, **site.options, fallback_after=0)
        error = await failure_of(client.subscribe_confirmed("secret"))
        assert (error.name, error.fields["code"]) == (
            "SubscriptionRefusedError",
            "subscription_denied",
        )
        await client.subscribe_confirmed("a")
        error = await failure_of(client.subscribe_confirmed("secret"))
        assert error.name == "SubscriptionRefusedError"
        error = await failure_of(client.subscribe_confirmed("no name"))
        assert error.fields["code"] == "invalid_channel"
        site.publish("a", 1)
        assert await messages_of(client, 1) == [1]
        assert "disconnect" not in names(await client.events())


async def test_a_stream_only_receives(client: JSClient) -> None:
    async with run_site() as site:
        await client.start(site.url, **site.options, fallback_after=0)
        await client.subscribe_confirmed("a")
        for call in (client.publish("a", 1), client.presence("a"), client.send({"type": "x"})):
            error = await failure_of(call)
            assert error.name == "NotConnectedError"
            assert "only receives" in error.fields["text"]


async def test_the_close_policy_is_the_same(client: JSClient) -> None:
    async with run_site() as site:
        await client.start(site.url, **site.options, fallback_after=0)
        await wait_event(client, "connect")
        await site.connections[-1].close(4001, "moved")
        (error,) = await wait_event(client, "error")
        assert (error["name"], error["code"], error["reason"]) == ("LostError", 4001, "moved")
        await wait_event(client, "reconnect")
        await site.connections[-1].close(4500, "banned")
        (end,) = await wait_event(client, "end")
        assert (end["name"], end["code"]) == ("ClosedError", 4500)


async def test_a_close_during_the_dial_is_a_failure_with_backoff(client: JSClient) -> None:
    async def close(connection: Connection) -> None:
        await connection.close(1013, "")

    async with run_site(on_connect=close) as site:
        await client.start(site.url, **site.options, fallback_after=0, max_attempts=3)
        (end,) = await wait_event(client, "end")
        assert end["name"] == "RetriesExhaustedError"
        assert site.hub.stats().connections == 4


async def test_tokens_and_refusals(client: JSClient) -> None:
    presented: list[str] = []
    async with run_site(authenticator=take_tokens(presented)) as site:
        await client.start(site.url, **site.options, tokens=["a(b c"], fallback_after=0)
        await wait_event(client, "connect")
        assert presented == ["a(b c"]

    def refuse(token: str) -> AuthResult:
        return AuthResult(token == "right", "alice")

    async with run_site(authenticator=SubprotocolTokenAuth(refuse)) as site:
        await client.start(site.url, **site.options, tokens=["right"], fallback_after=0)
        await wait_event(client, "connect")
        await client.start(site.url, **site.options, tokens=["wrong"], fallback_after=0)
        (end,) = await wait_event(client, "end")
        assert (end["name"], end["status"]) == ("RefusedError", 401)


async def test_retry_after_of_another_origin_is_obeyed(client: JSClient) -> None:
    async with run_site(max_connections=1) as site:
        site.is_blocking = False
        async with connect(site.url, proxy=None):
            await client.start(site.url, **site.options, fallback_after=0)
            (error,) = await wait_event(client, "error")
        assert (error["name"], error["code"]) == ("DialError", 1013)
        assert error["reason"] == "retry-after: 5"


async def test_a_message_may_have_any_characters(client: JSClient) -> None:
    texts = ["\u2028a: b\u2029", "\u0085\x0b\x0c", "\r\nid: 1\n\n", "", "\ufeff\x00\x7f🎉", " : "]
    async with run_site() as site:
        await client.start(site.url, **site.options, fallback_after=0)
        await client.subscribe_confirmed("a")
        site.publish("a", *texts)
        assert await messages_of(client, len(texts)) == texts
        assert named(await client.events(), "error") == []


async def test_a_hub_that_is_down_is_dialed_by_both_transports(client: JSClient) -> None:
    async with run_site() as site:
        url, options = site.url, site.options
    await client.start(url, **options)
    await wait_event(client, "error", 4)

    seen = set()

    async def see() -> set[str]:
        seen.add(await client.transport())
        return seen

    await eventually(see, lambda now: now == {"websocket", "sse"})


async def test_a_silent_hub_is_noticed(client: JSClient) -> None:
    async with run_site(heartbeat_interval=0.2, pong_timeout=0.5) as site:
        options = {**site.options, "heartbeat_interval": 0.1, "pong_timeout": 0.3}
        await client.start(site.url, **options, fallback_after=0)
        await wait_event(client, "connect")
        # The comments of the hub answer the pings of the client.
        await asyncio.sleep(1.5)
        assert "disconnect" not in names(await client.events())


async def test_a_closed_client_ends_its_stream(client: JSClient) -> None:
    async with run_site() as site:
        await client.start(site.url, **site.options, fallback_after=0)
        await client.subscribe_confirmed("a")
        await client.close()
        await wait_until(lambda: site.hub.stats().clients == 0)
        assert names(await client.events())[-1] == "end"
