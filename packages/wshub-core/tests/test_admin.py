"""The requests of the admin view: the key, the snapshot, the commands and the tracer."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from support import Serve, Served, WireClient, eventually, wshub
from test_http_app import Peer, connected
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from wshub_core import AdminApp, AuthResult, Hub, HubConfig, InvalidConfigError, Request
from wshub_core.admin.traffic import Traffic

KEY = "a-key-with-more-than-16-characters"


def authenticate(request: Request) -> AuthResult:
    return AuthResult(True, request.query)


@asynccontextmanager
async def administrated(served: Served) -> AsyncIterator[Peer]:
    """Serve the admin view of a hub on a socket of its own."""
    app = AdminApp(served.hub, KEY)
    async with (
        served.hub.serve("127.0.0.1", 0, http_app=app) as server,
        connected(Served(served.hub, server, served._stack)) as peer,
    ):
        yield peer


async def ask(
    peer: Peer, method: str, target: str, body: bytes = b"", key: str | None = KEY
) -> tuple[int, bytes]:
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    if key is not None:
        head += f"Authorization: Bearer {key}\r\n"
    status, _, answer = await peer.ask(head.encode() + b"\r\n" + body)
    return status, answer


async def command(peer: Peer, path: str, **body: Any) -> tuple[int, bytes]:
    return await ask(peer, "POST", path, json.dumps(body).encode())


async def connect_user(served: Served, user_id: str, *channels: str) -> WireClient:
    client = await served.connect(f"?{user_id}")
    for channel in channels:
        await client.subscribe(channel)
    return client


@pytest.mark.parametrize("key", [None, "", "wrong", KEY[:-1], KEY + "x", "\xff"])
async def test_nothing_is_told_without_the_key(serve: Serve, key: str | None) -> None:
    served = await serve()
    await served.connect()
    async with administrated(served) as peer:
        for method, path in (
            ("GET", "/state"),
            ("GET", "/trace?channel=a"),
            ("POST", "/publish"),
            ("POST", "/disconnect"),
            ("GET", "/other"),
        ):
            status, body = await ask(peer, method, path, key=key)
            assert (status, body) == (401, b"The admin key is missing or wrong\n")
    assert served.hub.stats().clients == 1


@pytest.mark.parametrize(
    ("key", "text"),
    [("short", "16 characters"), ("a-key-with-an-ö-in-it", "ASCII"), ("a\tkey" * 9, "printable")],
)
async def test_a_key_that_is_short_or_fits_no_header_is_refused(key: str, text: str) -> None:
    with pytest.raises(InvalidConfigError, match=text):
        AdminApp(Hub(), key)


async def test_the_page_and_its_files_need_no_key(serve: Serve) -> None:
    async with administrated(await serve()) as peer:
        for path in ("/", "/admin.js", "/admin.css", "/tables.js", "/tracer.js"):
            assert (await ask(peer, "GET", path, key=None))[0] == 200
        assert (await ask(peer, "POST", "/", key=None))[0] == 405
        _, headers, _ = await peer.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


async def test_the_snapshot_shows_channels_and_connections(serve: Serve) -> None:
    served = await serve(authenticator=authenticate)
    await connect_user(served, "alice", "news", "log")
    await connect_user(served, "bob", "news")
    async with administrated(served) as peer:
        status, body = await ask(peer, "GET", "/state")
        assert status == 200
        state = json.loads(body)
        assert state["stats"]["clients"] == 2
        assert state["channels"] == [
            {"name": "news", "subscribers": 2},
            {"name": "log", "subscribers": 1},
        ]
        bob, alice = state["connections"]
        assert (alice["userId"], alice["channels"], alice["waitingBytes"]) == ("alice", 2, 0)
        assert bob["id"] > alice["id"]
        for search, users in (("ali", ["alice"]), (str(bob["id"]), ["bob"]), ("nobody", [])):
            _, body = await ask(peer, "GET", f"/state?search={search}")
            assert [each["userId"] for each in json.loads(body)["connections"]][:1] == users[:1]


async def test_slow_consumers_come_first(serve: Serve) -> None:
    served = await serve(authenticator=authenticate, max_outbox_bytes=50_000_000)
    slow = await connect_user(served, "slow", "news")
    slow.socket.transport.pause_reading()
    await connect_user(served, "fast")
    for _ in range(200):
        served.hub.publish_event("news", "x" * 50_000)
    async with administrated(served) as peer:
        _, body = await ask(peer, "GET", "/state")
        first = json.loads(body)["connections"][0]
        assert (first["userId"], first["waitingBytes"] > 1_000_000) == ("slow", True)


async def test_publishing(serve: Serve) -> None:
    served = await serve()
    client = await served.connect()
    await client.subscribe("news")
    async with administrated(served) as peer:
        assert await command(peer, "/publish", channel="news", data={"n": 1}) == (204, b"")
        message = await client.receive()
        assert (message["type"], message["data"]) == ("event", {"n": 1})


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/publish", b'{"channel":"no way"}', "channel"),
        ("/publish", b'{"channel":"a","type":"pong"}', "pong"),
        ("/publish", b'{"chanel":"a"}', "chanel"),
        ("/publish", b'{"channel":1}', "channel"),
        ("/publish", b"{", "truncated"),
        ("/publish", b'{"channel":"a","data":' + b"[" * 9_000 + b"]" * 9_000 + b"}", "too deeply"),
        ("/publish", b"\xff", "malformed"),
        ("/publish", b'"' + b"x" * 2_000_000 + b'"', "too large"),
        ("/disconnect", b'{"connection":99}', "no connection 99"),
        ("/disconnect", b'{"connection":"1"}', "connection"),
    ],
)
async def test_a_wrong_command_gets_an_error(
    serve: Serve, path: str, body: bytes, text: str
) -> None:
    served = await serve()
    async with administrated(served) as peer:
        status, answer = await ask(peer, "POST", path, body)
        assert status == 400
        assert text in answer.decode()


async def test_disconnecting(serve: Serve) -> None:
    served = await serve(authenticator=authenticate)
    alice = await connect_user(served, "alice")
    await connect_user(served, "bob")
    (connection,) = (each for each in served.hub.connections if each.user_id == "alice")
    async with administrated(served) as peer:
        assert (await command(peer, "/disconnect", connection=connection.id))[0] == 204
        await alice.socket.wait_closed()
        assert (alice.socket.close_code, alice.socket.close_reason) == (
            1008,
            "closed by an administrator",
        )
        assert served.hub.stats().clients == 1


async def read_frames(peer: Peer) -> AsyncIterator[dict[str, Any]]:
    """Yield the lines of a trace."""
    await peer.reader.readuntil(b"\r\n\r\n")
    while True:
        size = int(await peer.reader.readline(), 16)
        chunk = await peer.reader.readexactly(size)
        await peer.reader.readline()
        if not chunk.strip():
            yield {}
        for line in chunk.splitlines():
            if line:
                yield json.loads(line)


async def start_trace(peer: Peer, query: str) -> AsyncIterator[dict[str, Any]]:
    head = f"GET /trace?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    peer.writer.write(head.encode())
    frames = read_frames(peer)
    assert await anext(frames) == {}
    return frames


async def test_a_channel_is_traced(serve: Serve) -> None:
    served = await serve()
    async with administrated(served) as peer:
        frames = await start_trace(peer, "channel=news")
        served.hub.publish_event("other", 1)
        served.hub.publish_event("news", 2)
        frame = await anext(frames)
        assert (frame["direction"], json.loads(frame["text"])["data"]) == ("published", 2)
    # The trace ends with its reader.
    await eventually(lambda: not served.hub._listeners)


async def test_a_user_is_traced_in_both_directions(serve: Serve) -> None:
    served = await serve(authenticator=authenticate)
    early = await connect_user(served, "alice")
    await connect_user(served, "bob", "news")
    async with administrated(served) as peer:
        frames = await start_trace(peer, "user=alice")
        late = await connect_user(served, "alice")
        for client in (early, late):
            await client.send(type="ping", id=1)
            for direction, text in (("in", '"ping"'), ("out", '"pong"')):
                frame = await anext(frames)
                assert (frame["direction"], frame["user_id"]) == (direction, "alice")
                assert text in frame["text"]
        served.hub.publish_event("news", "not for alice")
        await early.send(type="ping", id=2)
        assert '"ping"' in (await anext(frames))["text"]
    running = served.hub._get_running()
    await eventually(lambda: not running._watches.is_active)
    assert running.serve_frame == running._commands.serve
    await early.sync()


async def test_two_traces_of_one_connection(serve: Serve) -> None:
    served = await serve(authenticator=authenticate)
    client = await connect_user(served, "alice")
    (connection,) = served.hub.connections
    async with administrated(served) as first:
        async with administrated(served) as second:
            by_user = await start_trace(first, "user=alice")
            by_id = await start_trace(second, f"connection={connection.id}")
            await client.sync()
            for frames in (by_user, by_id):
                assert [(await anext(frames))["direction"] for _ in range(2)] == ["in", "out"]
        running = served.hub._get_running()
        await eventually(lambda: len(running._watches._watches) == 1)
        await client.sync()
        assert (await anext(by_user))["direction"] == "in"


async def test_a_user_id_that_is_no_unicode_is_shown_with_question_marks() -> None:
    async with AsyncExitStack() as stack:
        hub = Hub(HubConfig(authenticator=lambda _: AuthResult(True, "ada\ud800")))
        await stack.enter_async_context(hub)
        server = await stack.enter_async_context(hub.serve("127.0.0.1", 0))
        served = Served(hub, server, stack)
        client = await served.connect()
        async with administrated(served) as peer:
            status, body = await ask(peer, "GET", "/state")
            assert status == 200
            assert [each["userId"] for each in json.loads(body)["connections"]] == ["ada?"]
            frames = await start_trace(peer, "connection=1")
            await client.sync()
            assert (await anext(frames))["user_id"] == "ada?"


async def test_a_trace_without_a_name_is_refused(serve: Serve) -> None:
    async with administrated(await serve()) as peer:
        assert (await ask(peer, "GET", "/trace?what=ever"))[0] == 400


async def test_a_slow_reader_of_a_trace_is_told_what_it_missed() -> None:
    traffic = Traffic()
    for number in range(1_200):
        traffic.add("published", b"%d" % number)
    frames = await traffic.read(0)
    assert (len(frames), frames[0].skipped, frames[0].text) == (1_000, 200, "200")
    assert await traffic.read(0) == []
    traffic.add("in", b"x" * 10_000_000, 1, "alice")
    (frame,) = await traffic.read(0)
    assert (frame.size, len(frame.text), frame.skipped) == (10_000_000, 4_096, 0)


@pytest.mark.parametrize("character", [b"x", "\u00e4".encode(), "\U0001f600".encode(), b"\xff"])
@pytest.mark.parametrize(("count", "is_cut"), [(4_096, False), (4_097, True), (9_000, True)])
async def test_the_view_says_whether_a_text_is_cut(
    character: bytes, count: int, is_cut: bool
) -> None:
    traffic = Traffic()
    traffic.add("in", character * count)
    (frame,) = await traffic.read(0)
    assert (len(frame.text), frame.is_cut) == (4_096, is_cut)


async def test_a_trace_does_not_hold_up_the_end_of_the_hub(serve: Serve) -> None:
    served = await serve()
    async with administrated(served) as peer:
        await start_trace(peer, "channel=a")
        async with asyncio.timeout(5):
            await served.hub.close()


async def test_an_unknown_path_is_not_found(serve: Serve) -> None:
    async with administrated(await serve()) as peer:
        assert (await ask(peer, "GET", "/nothing"))[0] == 404


async def test_the_command_serves_the_view_with_a_new_key() -> None:
    async with wshub("serve", "--port", "0", "--admin", "--admin-port", "0") as process:
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(3)]
        found = re.fullmatch(r"admin view: http://localhost:(\d+)/#key=(\S{32})\n", lines[2])
        assert found is not None
        reader, writer = await asyncio.open_connection("localhost", int(found[1]))
        status, _ = await ask(Peer(reader, writer), "GET", "/state", key=found[2])
        assert status == 200
        writer.close()


async def test_the_command_prints_no_key_of_its_settings() -> None:
    arguments = ("serve", "--port", "0", "--admin", "--admin-port", "0", "--admin-key", KEY)
    async with wshub(*arguments) as process:
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(3)]
        assert re.fullmatch(r"admin view: http://localhost:\d+/\n", lines[2])


async def test_the_view_needs_one_worker() -> None:
    redis = ("--redis", "redis://localhost:1", "--workers", "2")
    async with wshub("serve", "--admin", *redis) as process:
        _, error = await process.communicate()
        assert error.decode() == "wshub: admin needs one worker: it shows the hub of one process\n"


@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
async def test_a_watch_that_raises_ends_no_connection(
    serve: Serve, error: type[BaseException]
) -> None:
    served = await serve()
    first = await served.connect()

    def fail(*_: object) -> bool:
        raise error

    with (
        served.hub.watch_frames(fail, lambda *frame: None),
        served.hub.watch_frames(lambda connection: True, fail),
    ):
        second = await served.connect()
        await first.sync()
        await second.sync()
    await first.sync()
    assert served.hub.stats().callback_errors > 4


async def test_a_key_with_a_line_end_is_the_key_without(serve: Serve) -> None:
    served = await serve()
    app = AdminApp(served.hub, f"{KEY}\n")
    async with (
        served.hub.serve("127.0.0.1", 0, path=None, http_app=app) as server,
        connected(Served(served.hub, server, served._stack)) as peer,
    ):
        assert (await ask(peer, "GET", "/state"))[0] == 200


async def test_the_server_of_the_view_serves_no_websockets() -> None:
    async with wshub("serve", "--port", "0", "--admin", "--admin-port", "0") as process:
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(3)]
        address = re.sub(r".*(localhost:\d+).*\n", r"ws://\1/ws", lines[2])
        with pytest.raises(InvalidStatus, match="401"):
            await connect(address, proxy=None)


async def test_the_answers_have_the_status_and_headers_of_http(serve: Serve) -> None:
    async with administrated(await serve()) as peer:
        body = b'{"channel":"a"}'
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        peer.writer.write(head.encode() + body)
        status, headers, _ = await peer.read(has_body=False)
        assert (status, "content-length" in headers, "content-type" in headers) == (
            204,
            False,
            False,
        )
        assert (await ask(peer, "PUT", "/state"))[0] == 405


async def test_a_websocket_is_refused_and_a_lifespan_is_not_taken_for_a_request() -> None:
    for app in (AdminApp(Hub(), KEY), Hub().api(lambda request: AuthResult(True)), Hub().health()):
        sent: list[str] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(event: Any, sent: list[str] = sent) -> None:
            sent.append(event["type"])

        await app({"type": "websocket"}, receive, send)
        assert sent == ["websocket.close"]
        # ASGI servers go on without a lifespan then.
        with pytest.raises(RuntimeError, match="lifespan"):
            await app({"type": "lifespan"}, receive, send)
