"""The framing of plain HTTP requests: limits, ambiguous lengths, floods, early ends."""

import asyncio
import logging
from typing import Any

import pytest
from raw_client import HANDSHAKE, reset
from support import Serve, eventually, read_to_end
from test_http_app import (
    GET,
    Peer,
    connected,
    echo,
    exchange_of,
    post,
    respond,
)

from wshub_core import Response
from wshub_core.transports.asgi_messages import Receive, Scope, Send

CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def ignore(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the request, and respond to a whole one only, as the HTTP API does."""
    while (event := await receive())["type"] == "http.request":
        if not event["more_body"]:
            await respond(send, b"good")
            return


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond without reading the body."""
    await respond(send, b"no", 403)


async def test_a_response_before_the_end_of_the_body_says_that_the_socket_closes(
    serve: Serve,
) -> None:
    """Python's http.client sends the head and the body of a request one after the other."""
    head, body = post(b"hello")[:-5], b"hello"
    async with connected(await serve(http_app=refuse)) as peer:
        status, headers, _ = await peer.ask(head)
        assert (status, headers["connection"]) == (403, "close")
        peer.writer.write(body + GET)
        assert await read_to_end(peer.reader) == b""
    async with connected(await serve(http_app=refuse)) as peer:
        for _ in range(2):  # the whole request is there, so the socket stays open
            status, headers, _ = await peer.ask(head + body)
            assert (status, "connection" in headers) == (403, False)


async def test_a_flood_of_tiny_chunks_leaves_time_for_others(serve: Serve) -> None:
    served = await serve(http_app=ignore)
    async with connected(served) as peer:
        peer.writer.write(CHUNKED + b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n")
        await eventually(lambda: exchange_of(served) is not None)
        before, steps = 0, []
        exchange = exchange_of(served)
        received = exchange.add_body
        total = 0

        def count(data: bytes) -> None:
            nonlocal total
            total += len(data)
            received(data)

        exchange.add_body = count
        while not exchange.is_complete:
            steps.append(total - before)
            before = total
            await asyncio.sleep(0)
        assert (await peer.read())[2] == b"good"
    # Each chunk is some microseconds of work, so thousands in one step would delay all others.
    assert max(steps) < 8_000


async def test_a_chunked_body_in_single_bytes(serve: Serve) -> None:
    async with connected(await serve(http_app=echo)) as peer:
        for byte in CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n":
            peer.writer.write(bytes([byte]))
        peer.writer.write(GET)
        assert (await peer.read())[2] == b"POST /a  abcde"
        assert (await peer.read())[2] == b"GET /a  "


async def test_a_chunked_body_waits_for_the_application(serve: Serve) -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await echo(scope, receive, send)

    served = await serve(http_app=app)
    async with connected(served) as peer:
        body = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        peer.writer.write(CHUNKED + body * 100 + b"0\r\n\r\n" + GET)
        await eventually(lambda: exchange_of(served) is not None)
        exchange = exchange_of(served)
        await eventually(lambda: exchange.unread_bytes > 65_536)
        for _ in range(100):
            await asyncio.sleep(0)
        (connection,) = served.sockets
        waiting: Any = connection
        assert exchange.unread_bytes < 200_000
        assert len(waiting._unread) < 1_000_000
        go_on.set()
        assert (await peer.read())[2] == b"POST /a  " + b"x" * 6_553_600
        assert (await peer.read())[2] == b"GET /a  "


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        # Programs in front may go by the other length, so such a request can hide another one.
        (CHUNKED.replace(b"Host", b"Content-Length: 5\r\nHost") + b"0\r\n\r\n", 400),
        (CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"A:\r\n" * 150 + b"\r\n", 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"A:\r\n" * 150, 431),
        (b"GET /" + b"%41" * 3_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ],
)
async def test_a_request_with_a_bad_head_is_refused(
    serve: Serve, request_bytes: bytes, expected: int
) -> None:
    served = await serve(http_app=echo)
    async with connected(served) as peer:
        status, headers, _ = await peer.ask(request_bytes + GET)
        assert (status, headers["connection"]) == (expected, "close")
        assert await peer.reader.read() == b""
    assert served.hub.stats().refused_handshakes == 1
    assert served.hub.stats().callback_errors == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"zz\r\n", 400),
        (b"1\r\nxyz0\r\n\r\n", 400),
        (b"0\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", 431),
    ],
)
async def test_a_malformed_body_is_a_mistake_of_the_client(
    serve: Serve, body: bytes, expected: int
) -> None:
    served = await serve(http_app=ignore)
    async with connected(served) as peer:
        status, headers, _ = await peer.ask(CHUNKED + body)
        assert (status, headers["connection"]) == (expected, "close")
        assert await peer.reader.read() == b""
    assert served.hub.stats().refused_handshakes == 1


@pytest.mark.parametrize("quote", [b"", b"'", b'"'])
async def test_a_refusal_does_not_repeat_the_request(serve: Serve, quote: bytes) -> None:
    async with connected(await serve(http_app=ignore)) as peer:
        line = b"Authorization : Bearer " + quote + b"secret\r\n\r\n"
        assert (await peer.ask(GET[:-2] + line))[2] == b"illegal header line\n"
    async with connected(await serve(http_app=ignore)) as peer:
        answer = await peer.ask(CHUNKED + b"secret" + quote + b"\r\n")
        assert (answer[0], b"secret" in answer[2]) == (400, False)


async def test_a_body_that_ends_too_early_is_a_mistake_of_the_client(serve: Serve) -> None:
    async with connected(await serve(http_app=ignore)) as peer:
        peer.writer.write(post(b"hello")[:-1])
        peer.writer.write_eof()
        assert (await peer.read())[0] == 400


@pytest.mark.parametrize("body", [b"3\r\nabc\r\n0\r\n\r\n", b"1\r\nx\r\n" * 5_000 + b"0\r\n\r\n"])
async def test_the_end_of_a_client_comes_behind_its_body(serve: Serve, body: bytes) -> None:
    async with connected(await serve(http_app=ignore)) as peer:
        peer.writer.write(CHUNKED + body)
        peer.writer.write_eof()
        assert (await peer.read())[2] == b"good"
        assert await peer.reader.read() == b""


async def leave_during_a_request(served: Any, peer: Peer) -> None:
    peer.writer.write(GET)
    await eventually(lambda: exchange_of(served) is not None)
    reset(peer)  # type: ignore[arg-type]
    await eventually(lambda: served.sockets == ())


async def test_a_client_that_leaves_during_a_request_is_no_error(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "wshub.access")
    finishing = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await finishing.wait()
        if scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": []})

    unhandled: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    served = await serve(http_app=app)
    async with connected(served) as peer:
        await leave_during_a_request(served, peer)
    finishing.set()
    async with connected(served) as peer:
        peer.writer.write(GET.replace(b"/a", b"/half"))
        assert await peer.reader.read() == b""

    def lines() -> list[logging.LogRecord]:
        return [each for each in caplog.records if each.name == "wshub.access"]

    await eventually(lambda: len(lines()) == 2)
    # Nobody got the response, so it has no status.
    assert [each.status for each in lines()] == [0, 200]  # type: ignore[attr-defined]
    assert unhandled == []


async def test_an_empty_line_before_a_request_is_ignored(serve: Serve) -> None:
    async with connected(await serve(http_app=echo)) as peer:
        assert (await peer.ask(b"\r\n" + post(b"x")))[2] == b"POST /a  x"
        for byte in b"\r\n" + GET:
            peer.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await peer.read())[2] == b"GET /a  "
        assert (await peer.ask(b"\r\n" + GET.replace(b"/a", b"/ws")))[0] == 426


@pytest.mark.parametrize("hosts", [b"", b"Host: x\r\nHost: y\r\n"])
@pytest.mark.parametrize("extension", [b"", b"Sec-WebSocket-Extensions: a\r\n"])
async def test_a_handshake_names_one_host(serve: Serve, hosts: bytes, extension: bytes) -> None:
    served = await serve()
    async with connected(served) as peer:
        handshake = HANDSHAKE.replace(b"Host: localhost\r\n", hosts + extension)
        assert (await peer.ask(handshake))[0] == 400
    assert served.hub.stats().refused_handshakes == 1


async def test_the_scheme_of_a_target_is_case_insensitive(serve: Serve) -> None:
    async with connected(await serve(http_app=echo)) as peer:
        peer.writer.write(HANDSHAKE.replace(b"/ws", b"HTTP://localhost/ws"))
        assert (await peer.read(has_body=False))[0] == 101


async def test_a_request_that_is_not_answered_when_the_server_closes_gets_503(
    serve: Serve,
) -> None:
    served = await serve(http_app=ignore)
    async with connected(served) as peer:
        peer.writer.write(post(b"hello")[:-1])
        await eventually(lambda: exchange_of(served) is not None)
        await served.server.close()
        assert (await peer.read())[0] == 503


async def test_a_client_that_leaves_while_its_request_waits_for_a_turn_is_no_error(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve(process_request=lambda request: Response(200, b"page"))
    assert served.server._accepted is not None
    waiting: list[Any] = []
    # As on a loop without time left.
    served.server._accepted.turns.process = waiting.append  # type: ignore[assignment]
    async with connected(served) as peer:
        peer.writer.write(GET)
        peer.writer.write_eof()
        await read_to_end(peer.reader)
        await eventually(lambda: served.sockets == ())
    assert len(waiting) == 1
    assert "failed" not in caplog.text
