"""Event streams of a hub: real sockets, the hub's own server and ASGI servers."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import uvicorn
from asgi_servers import ASGI_SERVERS
from history_support import publish
from sse_client import Stream, open_stream
from starlette.applications import Starlette
from starlette.routing import Route
from support import Serve, Served, eventually, present

from wshub_core import (
    AuthResult,
    Connection,
    Disconnect,
    DisconnectCause,
    HistoryLimits,
    Hub,
    HubConfig,
    MessageDecodeError,
    PresenceSettings,
    Request,
)
from wshub_core.testing import ManualClock
from wshub_core.transports.asgi_messages import Receive, Scope, Send

LARGE = HistoryLimits(messages=100_000, bytes=67_108_864)


async def serve_streams(serve: Serve, **settings: Any) -> Served:
    """Serve a hub whose server answers HTTP with event streams."""
    hubs: list[Hub] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hubs[0].sse()(scope, receive, send)

    served = await serve(http_app=app, **settings)
    hubs.append(served.hub)
    return served


Site = Callable[..., Any]


@pytest.fixture(params=["native", *ASGI_SERVERS])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Return a function that runs a hub on a server, and returns the hub and the port."""
    async with AsyncExitStack() as stack:

        async def run(**settings: Any) -> tuple[Hub, int]:
            hub = Hub(HubConfig(**{"close_timeout": 3.0, **settings}))
            await stack.enter_async_context(hub)
            app = Starlette(routes=[Route("/sse", hub.sse())])
            if request.param == "native":
                server = hub.serve("127.0.0.1", 0, http_app=app)
                return hub, (await stack.enter_async_context(server)).port
            make_server = ASGI_SERVERS[request.param]
            return hub, await stack.enter_async_context(make_server(app))

        yield run


async def test_messages_are_events(site: Site) -> None:
    hub, port = await site()
    async with open_stream(port, "a", "b") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        answers = await stream.messages(2)
        assert [(each["type"], each["channel"]) for each in answers] == [
            ("subscribed", "a"),
            ("subscribed", "b"),
        ]
        hub.publish_event("a", "ä\n ")
        hub.publish_event("other", 1)
        hub.send_event("all", 2)
        hub.publish_event("b", 3)
        first, second, third = await stream.messages(3)
        assert (first["type"], first["channel"], first["data"]) == ("event", "a", "ä\n ")
        assert second["data"] == {"data": 2, "event": "all"}
        assert third["data"] == 3
        assert stream.comments == ["heartbeat 30"]
        assert stream.retry is not None
        assert 1_000 <= stream.retry <= 5_000
        assert stream.last_id == ""
    await eventually(lambda: present(hub) == (0, 0, 0))


async def test_a_client_gets_what_it_has_missed(site: Site) -> None:
    hub, port = await site(history={"*": HistoryLimits()})
    publish(hub, "a", 1, 2)
    async with open_stream(port, "a", "b", "none") as stream:
        await stream.messages(3)
        publish(hub, "a", 3)
        publish(hub, "b", 4)
        assert await stream.data(2) == [3, 4]
        last_id = stream.last_id
    publish(hub, "b", 5, 6)
    publish(hub, "a", 7)
    async with open_stream(port, "a", "b", "none", headers={"Last-Event-ID": last_id}) as stream:
        answers = await stream.messages(3)
        assert [each["data"].get("recovered") for each in answers[:2]] == [True, True]
        assert sorted(await stream.data(3)) == [5, 6, 7]
        publish(hub, "a", 8)
        assert await stream.data(1) == [8]
    # A page has no header at its first connection. The header of a later one is newer.
    async with open_stream(port, "a", query={"last_event_id": "-2"}) as stream:
        assert await stream.data(2) == [7, 8]
        last_id = stream.last_id
    query, headers = {"last_event_id": "0"}, {"Last-Event-ID": last_id}
    publish(hub, "a", 9)
    async with open_stream(port, "a", query=query, headers=headers) as stream:
        assert await stream.data(1) == [9]


async def test_a_client_learns_that_messages_are_missing(site: Site) -> None:
    hub, port = await site(history={"*": HistoryLimits(messages=2)})
    publish(hub, "a", *range(10))
    async with open_stream(port, "a", query={"last_event_id": "foreign:3"}) as stream:
        (answer,) = await stream.messages(1)
        assert answer["data"]["reason"] == "foreign_epoch"
        assert await stream.data(2) == [8, 9]


async def test_every_cut_recovers(site: Site) -> None:
    hub, port = await site(history={"*": LARGE})
    got: dict[str, list[int]] = {"a": [], "b": []}
    last_id = "0,0"
    sent = 0
    for round_ in range(12):
        for _ in range(100):
            publish(hub, "ab"[sent % 2], sent)
            sent += 1
        headers = {"Last-Event-ID": last_id}
        async with open_stream(port, "a", "b", headers=headers) as stream:
            while len(got["a"]) + len(got["b"]) < sent - (31 * round_) % 60:
                (message,) = await stream.messages(1)
                if message["type"] == "event" and message["data"] not in got[message["channel"]]:
                    got[message["channel"]].append(message["data"])
                # The position behind this event, or one before it, but never one ahead.
                last_id = stream.last_id or last_id
    async with open_stream(port, "a", "b", headers={"Last-Event-ID": last_id}) as stream:
        while len(got["a"]) + len(got["b"]) < sent:
            (message,) = await stream.messages(1)
            if message["type"] == "event" and message["data"] not in got[message["channel"]]:
                got[message["channel"]].append(message["data"])
    assert got == {"a": list(range(0, sent, 2)), "b": list(range(1, sent, 2))}


async def test_publishes_during_the_recovery_come_once_and_in_order(site: Site) -> None:
    hub, port = await site(history={"*": LARGE})
    publish(hub, "a", *range(3_000))

    async def publish_more() -> None:
        for number in range(3_000, 5_000):
            publish(hub, "a", number)
            if number % 50 == 0:
                await asyncio.sleep(0)

    async with open_stream(port, "a", query={"last_event_id": "0"}) as stream:
        publishing = asyncio.create_task(publish_more())
        assert await stream.data(5_000) == list(range(5_000))
        await publishing


# Admission.


async def test_refusals_have_a_status_and_a_text(site: Site) -> None:
    def authenticate(request: Request) -> AuthResult:
        if request.query.endswith("token=right"):
            return AuthResult(True, "alice")
        return AuthResult(False, challenge="Bearer")

    hub, port = await site(authenticator=authenticate, max_connections=1)
    async with open_stream(port, "a", headers={"Origin": "https://evil.example"}) as stream:
        assert (stream.status, await stream.read_body()) == (403, "Forbidden\n")
        assert "access-control-allow-origin" not in stream.headers
    async with open_stream(port, "a") as stream:
        assert (stream.status, await stream.read_body()) == (401, "Unauthorised\n")
        assert stream.headers["www-authenticate"] == "Bearer"
    async with open_stream(port, "a", query={"token": "right"}) as stream:
        assert stream.status == 200
        (connection,) = hub.connections
        assert connection.user_id == "alice"
        async with open_stream(port, "a", query={"token": "right"}) as full:
            assert (full.status, await full.read_body()) == (503, "Too many connections\n")
            assert full.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("channel=a%20b&channel=", "no channel has a valid name\n"),
        ("&".join(f"channel=c{n}" for n in range(101)), "101 channels, the limit is 100\n"),
        ("&".join(f"x{n}=" for n in range(2_000)), "Max number of fields exceeded\n"),
        ("channel=a&last_event_id=nonsense", "the event id is malformed\n"),
        ("channel=a&channel=b&last_event_id=x:1", "the event id must have 2 entries\n"),
        ("channel=a&last_event_id=" + "x" * 60_000, "the event id is malformed\n"),
    ],
)
async def test_bad_requests(serve: Serve, query: str, text: str) -> None:
    served = await serve_streams(serve)
    async with open_stream(served.server.port, path=f"/sse?{query}&") as stream:
        assert (stream.status, await stream.read_body()) == (400, text)
    assert served.hub.stats().refused_handshakes == 1
    assert served.hub.stats().connections == 0


async def test_a_large_header_is_refused(serve: Serve) -> None:
    served = await serve_streams(serve)
    headers = {"Last-Event-ID": "x" * 100_000}
    async with open_stream(served.server.port, "a", headers=headers) as stream:
        assert stream.status == 431


async def test_methods(site: Site) -> None:
    hub, port = await site(allowed_origins=["https://app.example"])
    for method in ("POST", "PUT", "DELETE"):
        async with open_stream(port, "a", method=method) as stream:
            assert stream.status == 405
            assert stream.headers["allow"] == "GET, HEAD, OPTIONS"
    async with open_stream(port, "a", method="HEAD") as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
    headers = {"Origin": "https://app.example", "Access-Control-Request-Headers": "authorization"}
    async with open_stream(port, "a", method="OPTIONS", headers=headers) as stream:
        assert stream.status == 200
        assert stream.headers["access-control-allow-origin"] == "https://app.example"
        assert "Authorization" in stream.headers["access-control-allow-headers"]
    async with open_stream(
        port, "a", method="OPTIONS", headers={"Origin": "https://evil.example"}
    ) as stream:
        assert stream.status == 403
        assert "access-control-allow-origin" not in stream.headers
    async with open_stream(port, "a", headers={"Origin": "https://app.example"}) as stream:
        assert stream.headers["access-control-allow-origin"] == "https://app.example"
        assert stream.headers["vary"] == "Origin"
    assert hub.stats().connections == 1


async def test_a_bearer_token_also_counts_as_that_of_a_page(serve: Serve) -> None:
    offered = []

    def authenticate(request: Request) -> AuthResult:
        offered.append(request.headers.get("sec-websocket-protocol"))
        return AuthResult(True)

    served = await serve_streams(serve, authenticator=authenticate)
    for headers in ({"Authorization": "Bearer a/b c"}, {"Authorization": "Basic x"}, {}):
        async with open_stream(served.server.port, headers=headers):
            pass
    assert offered == [("wshub.bearer, a%2Fb%20c",), None, None]


async def test_refused_channels_are_told(site: Site) -> None:
    async def authorize(connection: Connection, channel: str) -> bool:
        await asyncio.sleep(0)
        return channel.startswith("free")

    hub, port = await site(channel_authorizer=authorize, max_subscriptions=2)
    async with open_stream(port, "free1", "secret", "no name", "free2", "free3") as stream:
        assert stream.status == 200
        answers = await stream.messages(5)
        assert [each.get("code") for each in answers] == [
            None,
            "subscription_denied",
            "invalid_channel",
            None,
            "subscription_limit",
        ]
        assert hub.channels == ("free1", "free2")
    async with open_stream(port, "secret", "no name") as stream:
        assert stream.status == 403
        refusals = await stream.messages(2)
        assert [each["channel"] for each in refusals] == ["secret", "no name"]
        assert await stream.next() is None
    await eventually(lambda: present(hub) == (0, 0, 0))


async def test_without_channels_a_client_gets_broadcasts(serve: Serve) -> None:
    served = await serve_streams(serve)
    async with open_stream(served.server.port) as stream:
        await eventually(lambda: present(served.hub)[0] == 1)
        served.hub.send_event("hello")
        assert (await stream.messages(1))[0]["data"] == {"data": None, "event": "hello"}


async def test_a_hub_that_is_not_running(serve: Serve) -> None:
    hub = Hub()
    served = await serve(http_app=hub.sse())
    for _ in range(3):
        async with open_stream(served.server.port, "a") as stream:
            assert (stream.status, await stream.read_body()) == (503, "Hub is not running\n")


# The connection.


async def test_a_stream_is_a_connection_of_the_hub(site: Site) -> None:
    seen: list[object] = []

    def on_connect(connection: Connection) -> None:
        seen.append(connection.remote_address.partition(":")[0])

    def on_disconnect(connection: Connection, end: Disconnect) -> None:
        seen.append((end.cause, end.code))

    settings = {"presence": {"*": PresenceSettings()}, "on_connect": on_connect}
    hub, port = await site(**settings, on_disconnect=on_disconnect)
    async with open_stream(port, "a") as stream:
        await stream.messages(1)
        assert present(hub) == (1, 1, 1)
        assert (await hub.presence_count("a")).connections == 1
        (connection,) = hub.connections
        assert connection.subscriptions == ("a",)
        await hub.subscribe(connection, "b")
        hub.publish_event("b", 1)
        assert await stream.data(1) == [1]
    await eventually(lambda: len(seen) == 2)
    assert seen == ["127.0.0.1", (DisconnectCause.CLIENT_CLOSED, 1006)]
    assert (await hub.presence_count("a")).connections == 0


async def end_of(stream: Stream) -> Any:
    """Return the close event, which is the last one."""
    while (event := await stream.next()) is not None and event.name != "close":
        pass
    assert event is not None
    assert await stream.next() is None
    return event.message


async def test_a_close_tells_its_code(site: Site) -> None:
    hub, port = await site()
    async with open_stream(port, "a") as stream:
        await stream.messages(1)
        (connection,) = hub.connections
        hub.publish_event("a", 1)
        await connection.close(4001, "retry-after: 9")
        assert await stream.data(1) == [1]
        assert await end_of(stream) == {"code": 4001, "reason": "retry-after: 9"}
        assert stream.retry == 9_000
    async with open_stream(port, "a") as stream:
        await stream.messages(1)
        await hub.close()
        assert await end_of(stream) == {"code": 1001, "reason": "hub closed"}


async def test_the_end_of_an_authentication_ends_the_stream(serve: Serve) -> None:
    served = await serve_streams(
        serve, authenticator=lambda _: AuthResult(True, "alice", expires_at=time.time() + 0.3)
    )
    async with open_stream(served.server.port, "a") as stream:
        assert (await end_of(stream))["code"] == 3000


async def test_the_end_of_the_server_is_told(serve: Serve) -> None:
    served = await serve_streams(serve)
    async with open_stream(served.server.port, "a") as stream:
        await stream.messages(1)
        await served.server.close()
        assert await end_of(stream) == {"code": 1001, "reason": "server closed"}


async def test_an_open_stream_does_not_keep_hypercorn_from_its_end() -> None:
    async with Hub() as hub:
        app = Starlette(routes=[Route("/sse", hub.sse())])
        async with AsyncExitStack() as stack, ASGI_SERVERS["hypercorn"](app) as port:
            stream = await stack.enter_async_context(open_stream(port, "a"))
            await stream.messages(1)
        await eventually(lambda: present(hub) == (0, 0, 0))


async def test_an_open_stream_does_not_keep_uvicorn_from_its_end() -> None:
    async with Hub() as hub:
        app = Starlette(routes=[Route("/sse", hub.sse())])
        config = uvicorn.Config(
            app, port=0, log_level="critical", timeout_graceful_shutdown=1, lifespan="off"
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        await eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with open_stream(port, "a") as stream:
            await stream.messages(1)
            server.should_exit = True
            await serving
            await eventually(lambda: present(hub) == (0, 0, 0))


async def test_a_cancelled_application_leaves_nothing_behind() -> None:
    async with Hub() as hub:
        sent: list[Any] = []
        bodies = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            return bodies.pop() if bodies else await asyncio.Event().wait()

        async def send(event: Any) -> None:
            sent.append(event)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        call = hub.sse()({**scope, "query_string": b"channel=a"}, receive, send)
        task: asyncio.Future[None] = asyncio.ensure_future(call)
        await eventually(lambda: len(sent) >= 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert present(hub) == (0, 0, 0)


async def test_a_comment_shows_that_the_hub_is_alive() -> None:
    clock = ManualClock()
    async with (
        Hub(HubConfig(heartbeat_interval=10, pong_timeout=20), clock=clock) as hub,
        hub.serve("127.0.0.1", 0, http_app=hub.sse()) as server,
        open_stream(server.port, "a") as stream,
    ):
        await stream.messages(1)
        # A client cannot answer, so silence does not end the connection.
        for _ in range(10):
            clock.advance(10)
            await asyncio.sleep(0.01)
        hub.publish_event("a", 1)
        await stream.messages(1)
        assert len(stream.comments) >= 9
        assert set(stream.comments) == {"heartbeat 10"}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has the option")
async def test_the_kernel_notices_a_client_that_has_vanished(serve: Serve) -> None:
    served = await serve_streams(serve, heartbeat_interval=3, pong_timeout=7)
    async with open_stream(served.server.port, "a"):
        (accepted,) = served.sockets
        own = accepted._transport.get_extra_info("socket")
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7_000


# Clients and applications that misbehave.


@asynccontextmanager
async def stalled(port: int, *channels: str) -> AsyncIterator[Stream]:
    """Open a stream that takes as few bytes as possible."""
    async with open_stream(port, *channels) as stream:
        await stream.messages(len(channels))
        stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
        yield stream


async def test_a_slow_client_is_evicted_and_nobody_else_notices(site: Site) -> None:
    hub, port = await site(max_outbox_bytes=200_000)
    async with stalled(port, "a"), open_stream(port, "a") as other:
        await other.messages(1)
        count = 0
        while hub.stats().evictions == 0:
            hub.publish_event("a", "x" * 10_000)
            count += 1
            await other.data(1)
        assert hub.stats().evictions == 1
        assert count * 10_000 < 30_000_000
        hub.publish_event("a", "still here")
        assert await other.data(1) == ["still here"]


async def test_a_client_that_takes_no_bytes_is_ended(serve: Serve) -> None:
    served = await serve_streams(serve, write_timeout=0.3, max_outbox_bytes=30_000_000)
    async with stalled(served.server.port, "a"):
        for _ in range(1_500):
            served.hub.publish_event("a", "x" * 10_000)
        await eventually(lambda: present(served.hub)[0] == 0)


async def test_dropped_messages_of_a_history_are_recovered(site: Site) -> None:
    hub, port = await site(history={"*": LARGE}, overflow="drop_oldest", max_outbox_bytes=300_000)
    count = 0
    async with open_stream(port, "a") as stream:
        await stream.messages(1)
        while hub.stats().dropped_messages == 0:
            publish(hub, "a", *(f"{number}:{'x' * 10_000}" for number in range(count, count + 20)))
            count += 20
            await asyncio.sleep(0)
        got = []
        while (event := await stream.next()) is not None and event.name != "close":
            got.append(event.message["offset"])
        assert event is not None
        assert event.message == {"code": 1013, "reason": "messages are missing"}
        last_id = stream.last_id
    async with open_stream(port, "a", headers={"Last-Event-ID": last_id}) as stream:
        await stream.messages(1)
        while len(got) < count:
            event = await stream.next()
            assert event is not None
            got.append(event.message["offset"])
    assert got == list(range(1, count + 1))


async def test_clients_that_reconnect_in_a_loop(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    hub, port = await site(history={"*": HistoryLimits()})
    caplog.set_level(logging.INFO)
    for number in range(150):
        async with open_stream(port, "a") as stream:
            if number % 2:
                stream.writer.transport.abort()
    await eventually(lambda: present(hub) == (0, 0, 0))
    ours = [record for record in caplog.records if record.name.startswith("wshub")]
    assert len(ours) < 10
    assert hub.stats().callback_errors == 0


class Fault(BaseException):
    """An exception that is no `Exception`."""


@pytest.mark.parametrize("name", ["on_connect", "channel_authorizer"])
async def test_an_exception_of_the_application_affects_one_stream(serve: Serve, name: str) -> None:
    def fail(connection: Connection, *channel: str) -> bool:
        if len(connection.user_id) == 1:
            raise Fault
        return True

    users = iter("ab")
    served = await serve_streams(
        serve,
        authenticator=lambda _: AuthResult(True, next(users, "all others")),
        **{name: fail},
    )
    async with open_stream(served.server.port, "a") as first:
        assert first.status == (200 if name == "on_connect" else 403)
    async with open_stream(served.server.port, "a"):
        pass
    async with open_stream(served.server.port, "a") as stream:
        await stream.messages(1)
        served.hub.publish_event("a", 1)
        assert await stream.data(1) == [1]
    assert served.hub.stats().callback_errors == 2


async def test_an_authorizer_that_hangs_delays_one_channel_only(serve: Serve) -> None:
    async def authorize(connection: Connection, channel: str) -> bool:
        if channel == "hangs":
            await asyncio.Event().wait()
        return True

    served = await serve_streams(
        serve, channel_authorizer=authorize, open_timeout=0.3, close_timeout=0.3
    )
    async with open_stream(served.server.port, "a", "hangs") as stream:
        # The stream begins without the answer. It may come later.
        assert stream.status == 200
        assert served.hub.channels == ("a",)


async def test_a_client_of_http_1_0(serve: Serve) -> None:
    served = await serve_streams(serve)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    writer.write(b"GET /sse?channel=a HTTP/1.0\r\n\r\n")
    stream = Stream(reader, writer)
    await stream.read_head()
    assert "transfer-encoding" not in stream.headers
    await stream.messages(1)
    served.hub.publish_event("a", 1)
    assert await stream.data(1) == [1]
    writer.close()
    await writer.wait_closed()


async def test_a_message_of_another_hub_cannot_add_fields_to_the_stream(site: Site) -> None:
    hub, port = await site(history={"a": HistoryLimits()})
    # JSON permits line ends between its tokens, and a carriage return ends a line of a stream.
    forged = b'{"type":"event","data":{\r"x":\revent: close\rdata: {}\r\r1}}'
    async with open_stream(port, "a", "b") as stream:
        await stream.messages(2)
        for channel in ("a", "b"):
            hub.deliver(channel, forged.replace(b"event: close\rdata: {}", b""))
            with pytest.raises(MessageDecodeError):
                hub.deliver(channel, forged)
            event = await stream.next()
            assert event is not None
            assert (event.name, event.message["data"]) == ("message", {"x": 1})


async def test_a_websocket_at_the_path_of_the_stream_is_refused() -> None:
    async with Hub() as hub:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(event: Any) -> None:
            sent.append(event)

        await hub.sse()({"type": "websocket"}, receive, send)
        assert sent == [{"type": "websocket.close"}]
