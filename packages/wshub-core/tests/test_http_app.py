"""The HTTP application beside a hub: real sockets, real requests, and clients that misbehave."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from support import Serve, Served, eventually

from wshub_core import ServeError
from wshub_core.transports.asgi_messages import Event, Receive, Scope, Send


class Peer:
    """A client that writes and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request and read its response."""
        self.writer.write(request)
        return await self.read()

    async def read(self, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        body = b""
        if "content-length" in headers and has_body:
            body = await self.reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(await self.reader.readline(), 16):
                parts.append(await self.reader.readexactly(size))
                await self.reader.readline()
            await self.reader.readline()
            body = b"".join(parts)
        return int(status.split(" ")[1]), headers, body


@contextlib.asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise ConnectionError
        part: bytes = event["body"]
        body += part
        if not event["more_body"]:
            return body


async def respond(send: Send, body: bytes, status: int = 200, **headers: str) -> None:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive)
    line = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} ".encode()
    await respond(send, line + body, content_length=str(len(line) + len(body)))


def exchange_of(served: Served) -> Any:
    """Return the request that the only client waits for; None if it is not under way."""
    (connection,) = served.sockets
    return getattr(connection, "_exchange", None)


GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes, path: bytes = b"/a") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, len(body))
    return head + body


async def test_requests_follow_each_other_on_one_connection(serve: Serve) -> None:
    async with connected(await serve(http_app=echo)) as peer:
        status, headers, body = await peer.ask(post(b"hello", b"/%61/b%2F?x=%20"))
        assert (status, body) == (200, b"POST /a/b/ x=%20 hello")
        assert "date" in headers
        assert await peer.ask(GET) == (200, headers | {"content-length": "8"}, b"GET /a  ")


async def test_the_scope_is_that_of_asgi(serve: Serve) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await respond(send, b"")

    served = await serve(http_app=app)
    async with connected(served) as peer:
        port = peer.writer.get_extra_info("sockname")[1]
        await peer.ask(
            b"get http://x.example/%C3%B6?q=1 HTTP/1.1\r\nHOST: x\r\nA: 1\r\na: 2\r\n\r\n"
        )
    (scope,) = scopes
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/ö",
        "raw_path": b"/%C3%B6",
        "query_string": b"q=1",
        "root_path": "",
        "headers": [(b"host", b"x.example"), (b"a", b"1"), (b"a", b"2")],
        "client": ("127.0.0.1", port),
        "server": ("127.0.0.1", served.server.port),
    }


async def test_a_request_in_single_bytes(serve: Serve) -> None:
    async with connected(await serve(http_app=echo)) as peer:
        for byte in post(b"hello"):
            peer.writer.write(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        assert (await peer.read())[2] == b"POST /a  hello"


async def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    async with connected(await serve(http_app=echo)) as peer:
        peer.writer.write(b"".join(post(b"%d" % i) for i in range(50)))
        for i in range(50):
            assert (await peer.read())[2] == b"POST /a  %d" % i


async def test_websockets_are_served_beside_it(serve: Serve) -> None:
    served = await serve(http_app=echo)
    client = await served.connect()
    async with connected(served) as peer:
        assert (await peer.ask(GET))[0] == 200
        await client.sync()


async def test_a_plain_request_at_the_path_of_the_hub_does_not_reach_it(serve: Serve) -> None:
    for path in (b"/ws", b"/%77s", b"http://x/ws?a=b"):
        async with connected(await serve(http_app=echo)) as peer:
            request = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path
            assert (await peer.ask(request))[0] == 426


async def test_a_large_body_waits_for_the_application(serve: Serve) -> None:
    go_on = asyncio.Event()
    unread: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        body = await read_body(receive)
        unread.append(len(body))
        await respond(send, b"")

    served = await serve(http_app=app)
    async with connected(served) as peer:
        peer.writer.write(post(bytes(30_000_000)))
        await eventually(lambda: exchange_of(served) is not None)
        transport = served.sockets[0]._transport
        await eventually(lambda: not transport.is_reading())
        assert exchange_of(served).unread_bytes < 400_000
        go_on.set()
        assert (await peer.read())[0] == 200
    assert unread == [30_000_000]


async def test_a_client_that_reads_slowly_slows_the_application_down(serve: Serve) -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1_000):
            await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
            sent += 65_536
        await send({"type": "http.response.body"})

    async with connected(await serve(http_app=app)) as peer:
        peer.writer.write(GET)
        await asyncio.sleep(0.3)
        assert sent < 20_000_000
        assert len((await peer.read())[2]) == 65_536_000


async def test_a_client_that_reads_nothing_is_aborted(serve: Serve) -> None:
    gone = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        part = {"type": "http.response.body", "body": bytes(65_536), "more_body": True}
        with contextlib.suppress(OSError):
            for _ in range(1_000):
                await send(part)
            pytest.fail("the client is still there")
        assert await receive() == {"type": "http.disconnect"}
        gone.set()

    async with connected(await serve(http_app=app, write_timeout=0.2)) as peer:
        peer.writer.write(GET)
        async with asyncio.timeout(5):
            await gone.wait()


async def test_a_client_that_reads_slowly_is_not_aborted(serve: Serve) -> None:
    size = 10_000_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    # The kernel takes bytes in steps of a third of its buffer, which may have 6 MB.
    served = await serve(http_app=app, write_timeout=1.5, open_timeout=1.0, close_timeout=1.0)
    for request in (GET, GET.replace(b"1.1", b"1.0"), GET[:-2] + b"Connection: close\r\n\r\n"):
        async with connected(served) as peer:
            peer.writer.write(request)
            await peer.reader.readuntil(b"\r\n\r\n")
            count = 0
            while count < size:
                part = await peer.reader.read(200_000)
                assert part, f"{count} bytes arrived"
                count += len(part)
                await asyncio.sleep(0.03)


async def test_the_end_of_a_client_ends_a_stream(serve: Serve) -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        assert await receive() == {"type": "http.disconnect"}
        ended.set()

    async with connected(await serve(http_app=app)) as peer:
        peer.writer.write(GET)
        await peer.reader.readuntil(b"x\r\n")
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_client_may_end_its_side_after_the_request(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.1)
        await respond(send, b"late")

    async with connected(await serve(http_app=app)) as peer:
        peer.writer.write(GET)
        peer.writer.write_eof()
        status, headers, body = await peer.read()
        assert (status, headers["connection"], body) == (200, "close", b"late")
        assert await peer.reader.read() == b""


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET /a HTTP/1.1\r\n\r\n", 400),  # no Host header
        (b"GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 12_000 + b"\r\n", 431),
    ],
)
async def test_a_malformed_request_gets_an_error(
    serve: Serve, request_bytes: bytes, expected: int
) -> None:
    served = await serve(http_app=echo)
    async with connected(served) as peer:
        status, headers, body = await peer.ask(request_bytes)
        assert status == expected
        assert headers["connection"] == "close"
        assert body
        assert await peer.reader.read() == b""
    assert served.hub.stats().refused_handshakes == 1


async def test_a_malformed_body_ends_the_connection(serve: Serve) -> None:
    ends: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await read_body(receive)
        except ConnectionError:
            ends.append("disconnect")
            return
        await respond(send, b"")

    async with connected(await serve(http_app=app)) as peer:
        head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        peer.writer.write(head + b"zz\r\n")
        await peer.reader.read()
    await eventually(lambda: ends == ["disconnect"])


async def test_a_request_that_does_not_end_is_aborted(serve: Serve) -> None:
    served = await serve(http_app=echo, open_timeout=0.2)
    for part in (b"GET /a HT", b"GET /a HTTP/1.1\r\nHost: x\r\n", post(b"hello")[:-1]):
        async with connected(served) as peer:
            peer.writer.write(part)
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    assert await peer.reader.read() == b""


async def test_an_idle_connection_is_closed_after_the_open_timeout(serve: Serve) -> None:
    served = await serve(http_app=echo, open_timeout=0.2)
    async with connected(served) as peer:
        assert (await peer.ask(GET))[0] == 200
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await peer.reader.read() == b""


async def test_a_long_response_outlives_the_open_timeout(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await asyncio.sleep(0.5)
        await respond(send, b"late")

    async with connected(await serve(http_app=app, open_timeout=0.1)) as peer:
        assert (await peer.ask(post(b"x")))[2] == b"late"


async def test_a_client_that_waits_for_permission_to_send_its_body(serve: Serve) -> None:
    async with connected(await serve(http_app=echo)) as peer:
        head = post(b"hello")[:-5].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
        peer.writer.write(head)
        assert (await peer.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        assert (await peer.ask(b"hello"))[2] == b"POST /a  hello"


async def test_a_body_that_the_application_does_not_read(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"too large\n", 413)

    async with connected(await serve(http_app=app)) as peer:
        peer.writer.write(post(bytes(5_000_000)))
        status, _, body = await peer.read()
        assert (status, body) == (413, b"too large\n")
        with contextlib.suppress(ConnectionError):
            assert await peer.reader.read() == b""


@pytest.mark.parametrize("error", [RuntimeError, KeyError, asyncio.CancelledError])
async def test_an_application_that_fails(
    serve: Serve, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/a":
            raise error("why")
        await respond(send, b"good")

    served = await serve(http_app=app)
    async with connected(served) as peer:
        status, _, body = await peer.ask(GET)
        assert (status, body) == (500, b"Internal Server Error\n")
        assert (await peer.ask(GET.replace(b"/a", b"/b")))[2] == b"good"
    assert "http_app failed" in caplog.text


@pytest.mark.parametrize("status", [200, 500])
async def test_an_application_that_fails_in_the_middle(serve: Serve, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError

    async with connected(await serve(http_app=app)) as peer:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
            await peer.ask(GET)


@pytest.mark.parametrize("mistake", ["no response", "header", "status", "length"])
async def test_an_application_with_a_mistake(serve: Serve, mistake: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        start: Event = {"type": "http.response.start", "status": 200, "headers": []}
        match mistake:
            case "no response":
                return
            case "header":
                start["headers"] = [(b"a", b"b\r\nc: d")]
            case "status":
                start["status"] = 20
            case "length":
                start["headers"] = [(b"content-length", b"3")]
        await send(start)
        await send({"type": "http.response.body", "body": b"four"})

    served = await serve(http_app=app)
    async with connected(served) as peer:
        peer.writer.write(GET)
        with contextlib.suppress(ConnectionError):
            answer = await peer.reader.read(100)
            assert b"500" in answer or answer == b""


async def test_head_gets_the_headers_alone(serve: Serve) -> None:
    async with connected(await serve(http_app=echo)) as peer:
        peer.writer.write(GET.replace(b"GET", b"HEAD"))
        status, headers, _ = await peer.read(has_body=False)
        assert (status, headers["content-length"]) == (200, "9")
        assert (await peer.ask(GET))[2] == b"GET /a  "


async def test_http_1_0(serve: Serve) -> None:
    async with connected(await serve(http_app=echo)) as peer:
        peer.writer.write(b"GET /a HTTP/1.0\r\n\r\n")
        answer = await peer.reader.read()
        assert re.match(rb"HTTP/1\.1 200 .*GET /a  $", answer, re.DOTALL)


async def test_closing_the_server_ends_streams_and_idle_connections(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await receive()
        await send({"type": "http.response.body", "body": b"bye"})

    served = await serve(http_app=app)
    async with connected(served) as streaming, connected(served) as idle:
        streaming.writer.write(GET)
        await streaming.reader.readuntil(b"x\r\n")
        async with asyncio.timeout(5):
            await served.server.close()
        assert (await streaming.reader.read()).startswith(b"3\r\nbye\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            assert await idle.reader.read() == b""


async def test_a_response_without_an_end_does_not_hold_up_the_server(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    served = await serve(http_app=app, close_timeout=0.2)
    async with connected(served) as peer:
        peer.writer.write(GET)
        await eventually(lambda: exchange_of(served) is not None)
        async with asyncio.timeout(5):
            await served.server.close()


async def test_process_request_and_an_application_exclude_each_other(serve: Serve) -> None:
    with pytest.raises(ServeError, match="not both"):
        await serve(process_request=lambda request: None, http_app=echo)


async def test_many_clients_that_flood(serve: Serve) -> None:
    served = await serve(http_app=echo)
    async with connected(served) as flooding, connected(served) as other:
        flooding.writer.write(GET * 5_000)
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert (await other.ask(GET))[0] == 200
        assert loop.time() - started < 1


async def test_a_handshake_may_follow_requests_on_the_same_connection(serve: Serve) -> None:
    """Proxies keep connections open, and use them for the next client, whatever its request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"page")

    served = await serve(http_app=app)
    handshake = (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    for pieces in (
        [request, request, handshake],
        # All at once, and byte by byte.
        [request + request + handshake, b"", b""],
        [request, request, *(handshake[at : at + 1] for at in range(len(handshake)))],
    ):
        async with connected(served) as peer:
            for piece in pieces[:2]:
                assert (await peer.ask(piece))[2] == b"page"
            for piece in pieces[2:]:
                peer.writer.write(piece)
                await asyncio.sleep(0)
            assert (await peer.read(has_body=False))[0] == 101
            await eventually(lambda: served.hub.stats().clients == 1)
            served.hub.send_event("hello")
            assert b"hello" in await peer.reader.readuntil(b"}")
        await eventually(lambda: served.hub.stats().clients == 0)


async def test_a_plain_request_for_the_hub_is_refused_on_a_kept_connection(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"page")

    served = await serve(http_app=app)
    async with connected(served) as peer:
        assert (await peer.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        assert (await peer.ask(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 426


async def test_a_flood_of_pipelined_requests_takes_little_memory(serve: Serve) -> None:
    served = await serve(http_app=echo)
    async with connected(served) as flooding, connected(served) as other:
        flooding.writer.write(GET * 100_000)
        opening = None
        for _ in range(20):
            assert (await other.ask(GET))[0] == 200
            for socket in served.sockets:
                opening = getattr(socket, "_opening", socket)
                assert len(opening._unread) < 1_000_000
    assert opening is not None


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
async def test_bytes_behind_the_last_request_are_dropped(
    serve: Serve, request_bytes: bytes
) -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await respond(send, b"late")

    served = await serve(http_app=app)
    async with connected(served) as peer:
        peer.writer.write(request_bytes)
        await eventually(lambda: exchange_of(served) is not None)
        for _ in range(100):
            peer.writer.write(bytes(100_000))
            await peer.writer.drain()
        (connection,) = served.sockets
        buffered = cast("Any", connection)._protocol._receive_buffer
        assert len(bytes(buffered)) < 1_000_000
        go_on.set()
        assert (await peer.read())[0] == 200


async def test_an_application_that_only_sends_ends_with_its_client(serve: Serve) -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1_000, "more_body": True})
        finally:
            ended.set()

    served = await serve(http_app=app)
    async with connected(served) as peer:
        peer.writer.write(GET)
        await peer.reader.readexactly(10_000)
    async with asyncio.timeout(10):
        await ended.wait()
    assert served.hub.stats().callback_errors == 0


@pytest.mark.parametrize("first", ["http.response.body", "http.response.push"])
async def test_an_application_that_begins_with_a_wrong_event(serve: Serve, first: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": first, "body": b"x"})

    async with connected(await serve(http_app=app)) as peer:
        assert (await peer.ask(GET))[0] == 500


async def test_a_head_request_that_fails_gets_no_body(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            raise RuntimeError
        await respond(send, b"good")

    served = await serve(http_app=app)
    async with connected(served) as peer:
        peer.writer.write(GET.replace(b"GET", b"HEAD"))
        assert (await peer.read(has_body=False))[0] == 500
        assert (await peer.ask(GET))[2] == b"good"
    async with connected(served) as peer:
        peer.writer.write(b"HEAD /a HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 70_000 + b"\r\n\r\n")
        assert (await peer.read(has_body=False))[0] == 431


async def test_the_time_limit_of_a_body_runs_only_while_the_application_reads(
    serve: Serve,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.6)
        await respond(send, b"%d" % len(await read_body(receive)))

    served = await serve(http_app=app, open_timeout=0.3)
    async with connected(served) as peer:
        assert (await peer.ask(post(bytes(2_000_000))))[2] == b"2000000"
    async with connected(served) as peer:
        head = post(b"hello")[:-5].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
        peer.writer.write(head)
        assert (await peer.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        assert (await peer.ask(b"hello"))[2] == b"5"


async def test_any_method_reaches_the_application(serve: Serve) -> None:
    async with connected(await serve(http_app=echo)) as peer:
        request = GET.replace(b"GET", b"M-SEARCH")
        assert (await peer.ask(request))[2] == b"M-SEARCH /a  "
