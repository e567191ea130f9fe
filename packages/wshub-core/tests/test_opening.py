"""The opening handshake and plain HTTP on raw sockets, with input that no correct client sends."""

import asyncio
import gc
from typing import Any, cast

import pytest
from raw_client import HANDSHAKE, PING, SUBSCRIBE, raw, reset, text
from support import Serve, Served, eventually, read_to_end
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request as HTTPRequest

from wshub_core import (
    AuthError,
    AuthResult,
    Request,
    Response,
    TooManyAttemptsError,
)


async def test_frames_behind_the_request_are_served_after_the_handshake(served: Served) -> None:
    async with raw(served) as client:
        client.writer.write(HANDSHAKE + SUBSCRIBE + PING)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        await client.expect_pong()
        assert served.hub.channels == ("a",)


async def test_a_request_may_arrive_byte_by_byte(served: Served) -> None:
    async with raw(served) as client:
        for byte in HANDSHAKE:
            client.writer.write(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")


async def test_foreign_extensions_and_subprotocols_are_not_selected(served: Served) -> None:
    async with raw(served) as client:
        offer = b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat"
        client.writer.write(HANDSHAKE.replace(b"\r\n\r\n", offer + b"\r\n\r\n"))
        head = await client.read_head()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-extensions" not in head.lower()
    assert b"sec-websocket-protocol" not in head.lower()


async def test_a_token_in_the_subprotocols_is_not_sent_back(served: Served) -> None:
    async with raw(served) as client:
        offer = b"\r\nSec-WebSocket-Protocol: chat, wshub.bearer, s3cret"
        client.writer.write(HANDSHAKE.replace(b"\r\n\r\n", offer + b"\r\n\r\n"))
        head = await client.read_head()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nsec-websocket-protocol: wshub.bearer\r\n" in head.lower()
    assert b"s3cret" not in head


async def test_a_refusal_has_the_challenge_and_retry_after(serve: Serve) -> None:
    error = AuthError("the identity provider is away")
    error.retry_after = 4.2
    answers = {
        "plain": AuthResult(False),
        "challenge": AuthResult(False, challenge='Bearer error="invalid_token"'),
        "later": AuthResult(False, error=error, challenge="Bearer"),
        "limited": AuthResult(False, error=TooManyAttemptsError(59.5), challenge="Bearer"),
    }
    served = await serve(authenticator=lambda request: answers[request.query])

    async def refusal(query: bytes) -> tuple[int, str | None, str | None, bytes]:
        request = HANDSHAKE.replace(b"/ws", b"/ws?" + query)
        status, headers, body = await exchange(served, request)
        return status, headers.get("www-authenticate"), headers.get("retry-after"), body

    refused = b"Unauthorised\n"
    assert await refusal(b"plain") == (401, None, None, refused)
    assert await refusal(b"challenge") == (401, 'Bearer error="invalid_token"', None, refused)
    assert await refusal(b"later") == (401, "Bearer", "5", refused)
    assert await refusal(b"limited") == (429, None, "60", b"Too many attempts\n")


async def test_clients_that_leave_before_the_response_leave_no_socket(
    serve: Serve,
) -> None:
    async def answer(request: Request) -> Response:
        await asyncio.sleep(0.01)
        return Response(200, b"late")

    served = await serve(answer)
    for _ in range(30):
        async with raw(served) as client:
            client.writer.write(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.writer.drain()
    await eventually(lambda: not served.sockets)


async def exchange(served: Served, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request; return the status, the headers and the body of the response."""
    async with raw(served) as client:
        client.writer.write(data)
        head, _, body = (await read_to_end(client.reader)).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(status.split()[1]), headers, body


async def test_a_foreign_origin_is_refused(serve: Serve) -> None:
    served = await serve(allowed_origins=["https://app.example"])
    request = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nOrigin: https://evil.example\r\n\r\n")
    status, headers, body = await exchange(served, request)
    assert (status, body) == (403, b"Forbidden\n")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["content-length"] == "10"
    assert served.hub.stats().clients == 0


async def test_by_default_only_pages_of_the_same_origin_may_connect(served: Served) -> None:
    own = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nOrigin: http://localhost\r\n\r\n")
    async with raw(served) as client:
        client.writer.write(own)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
    other = own.replace(b"//localhost", b"//elsewhere")
    assert (await exchange(served, other))[0] == 403


async def test_a_closed_hub_refuses_handshakes_with_503(served: Served) -> None:
    await served.hub.close()
    assert (await exchange(served, HANDSHAKE))[::2] == (503, b"Hub is not running\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
        (HANDSHAKE.replace(b"GET", b"POST"), 405),
        (HANDSHAKE.replace(b"Version: 13", b"Version: 8"), 400),
        (HANDSHAKE.replace(b"/ws", b"/elsewhere"), 404),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + (b"X: " + b"x" * 8_000 + b"\r\n") * 10 + b"\r\n", 431),
    ],
    ids=[
        "no upgrade",
        "method",
        "version",
        "path",
        "long line",
        "long header",
        "many headers",
        "much in all",
    ],
)
async def test_invalid_handshakes_are_refused(served: Served, data: bytes, status: int) -> None:
    assert (await exchange(served, data))[0] == status
    assert served.hub.stats().clients == 0


async def test_authentication_follows_the_origin_check_and_precedes_the_handshake(
    serve: Serve,
) -> None:
    async def authenticate(request: Request) -> AuthResult:
        await asyncio.sleep(0)
        return AuthResult(request.query == "token=good", "alice")

    served = await serve(authenticator=authenticate)
    foreign = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nOrigin: http://evil\r\n\r\n")
    assert (await exchange(served, foreign))[0] == 403
    assert (await exchange(served, HANDSHAKE))[::2] == (401, b"Unauthorised\n")
    plain = b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert (await exchange(served, plain))[0] == 401
    assert (await exchange(served, plain.replace(b"/ws", b"/ws?token=good")))[0] == 426
    async with raw(served) as client:
        # Frames behind the request wait for its response.
        client.writer.write(HANDSHAKE.replace(b"/ws", b"/ws?token=good") + SUBSCRIBE + PING)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        await client.expect_pong()
        assert served.hub.connections[0].user_id == "alice"
        assert served.hub.channels == ("a",)


async def test_frames_behind_the_request_do_not_count_as_request_bytes(served: Served) -> None:
    frames = text('{"type":"ping","data":"%s"}' % ("x" * 60_000)) * 3
    async with raw(served) as client:
        client.writer.write(HANDSHAKE + frames)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        for _ in range(3):
            await client.expect_pong()


async def test_a_hub_that_closes_during_authentication_refuses_with_503(serve: Serve) -> None:
    asked, gate = asyncio.Event(), asyncio.Event()

    async def authenticate(request: Request) -> AuthResult:
        asked.set()
        await gate.wait()
        return AuthResult(True, "alice")

    served = await serve(authenticator=authenticate)
    answer = asyncio.create_task(exchange(served, HANDSHAKE))
    await asked.wait()
    closing = asyncio.create_task(served.hub.close())
    await asyncio.sleep(0)
    gate.set()
    assert (await answer)[::2] == (503, b"Hub is not running\n")
    await closing
    assert served.hub.stats().connections == 0


async def test_callbacks_that_hang_during_a_request_time_out(serve: Serve) -> None:
    async def hang(request: Request) -> Any:
        await asyncio.Event().wait()

    served = await serve(hang, authenticator=hang, open_timeout=0.05)
    assert (await exchange(served, HANDSHAKE))[0] == 401
    served_too = await serve(
        authenticator=lambda _: AuthResult(False),
        on_auth_failure=lambda request, _: hang(request),
        open_timeout=0.05,
    )
    assert (await exchange(served_too, HANDSHAKE))[0] == 401
    assert (await exchange(served, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 500


async def test_a_full_hub_refuses_with_retry_after(serve: Serve) -> None:
    served = await serve(max_connections=1)
    client = await served.connect()
    status, headers, body = await exchange(served, HANDSHAKE)
    assert (status, body) == (503, b"Too many connections\n")
    assert int(headers["retry-after"]) > 0
    await client.socket.close()
    await eventually(lambda: served.hub.stats().clients == 0)
    await served.connect()


@pytest.mark.parametrize(
    "nonsense", [AuthResult(True, cast(str, 42)), AuthResult(True, "a", cast(Any, ["admin"]))]
)
async def test_an_invalid_result_of_an_authenticator_refuses(
    serve: Serve, nonsense: AuthResult
) -> None:
    served = await serve(authenticator=lambda _: nonsense)
    assert (await exchange(served, HANDSHAKE))[0] == 401


async def test_a_response_that_cannot_be_serialized_ends_the_socket(serve: Serve) -> None:
    served = await serve(lambda _: Response(200, cast(bytes, "text")))
    async with raw(served) as client:
        client.writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await read_to_end(client.reader) == b""
    await eventually(lambda: not served.sockets)


async def test_the_response_to_head_has_no_body(serve: Serve) -> None:
    served = await serve(lambda request: Response(200, b"body"))
    status, headers, body = await exchange(served, b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, headers["content-length"], body) == (200, "4", b"")


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 405),
        (b"POST /ws HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 405),
        (b"PUT /ws HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"OPTIONS /ws HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"HEAD /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 400),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\ncontent-length: 0\r\n\r\n", 426),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400),
        (b"GET /gr\xc3\xb6\xc3\x9fe HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /ws HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 9_000), 414),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n" % (b"x" * 9_000), 431),
        (b"GET /ws HTTP/1.1\r\n" + b"X: x\r\n" * 200 + b"\r\n", 431),
        (b"GET http://x/ws HTTP/1.1\r\nHost: other\r\n\r\n", 426),
        (b"GET http://x/nothing?a=http://y/ws HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 404),
    ],
)
async def test_requests_that_cannot_be_served_get_a_response(
    served: Served, request_text: bytes, status: int
) -> None:
    got, headers, body = await exchange(served, request_text)
    assert got == status
    assert body.endswith(b"\n") or request_text.startswith(b"HEAD")
    assert ("allow" in headers) == (status == 405)
    assert served.hub.stats().refused_handshakes == (status != 404)


async def test_a_request_with_an_absolute_target_opens_a_connection(served: Served) -> None:
    async with raw(served) as client:
        target = f"http://localhost:{served.server.port}/ws".encode()
        client.writer.write(HANDSHAKE.replace(b"/ws", target) + PING)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        await client.expect_pong()


async def test_a_large_request_body_does_not_prevent_the_response(served: Served) -> None:
    async with raw(served) as client:
        client.writer.write(
            b"POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
        )
        assert (await client.read_head()).startswith(b"HTTP/1.1 405 ")


async def test_bytes_that_are_not_http_close_the_socket(served: Served) -> None:
    async with raw(served) as client:
        client.writer.write(b"\x16\x03\x01 this is not http\r\n\r\n")
        assert await read_to_end(client.reader) == b""


async def test_an_unfinished_request_is_aborted_after_the_open_timeout(serve: Serve) -> None:
    served = await serve(open_timeout=0.05)
    async with raw(served) as client:
        client.writer.write(HANDSHAKE[:40])
        assert await read_to_end(client.reader) == b""


async def test_process_request_answers_other_paths(serve: Serve) -> None:
    def answer(request: Request) -> Response | None:
        if request.path == "/fail":
            raise LookupError("secret detail")
        if request.path == "/nonsense":
            return cast(Response, "not a response")
        if request.path == "/echo":
            body = f"{request.method} {request.query} {request.header('x-name')}"
            return Response(200, body.encode(), {"X-Answer": "yes"})
        return None

    async def answer_later(request: Request) -> Response | None:
        await asyncio.sleep(0)
        return answer(request)

    for process_request in (answer, answer_later):
        served = await serve(process_request)
        request = b"GET /echo?a=1 HTTP/1.1\r\nHost: x\r\nX-Name: Ada\r\n\r\n"
        status, headers, body = await exchange(served, request)
        assert (status, body) == (200, b"GET a=1 Ada")
        assert headers["x-answer"] == "yes"
        for path in (b"fail", b"nonsense"):
            request = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % path
            status, _, body = await exchange(served, request)
            assert (status, body) == (500, b"Internal Server Error\n")
        assert (await exchange(served, b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 404


async def test_an_open_connection_does_not_keep_its_request(served: Served) -> None:
    async with raw(served) as client:
        await client.open()
        client.writer.write(PING)
        await client.expect_pong()
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, HTTPRequest)]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_refused_client_may_have_sent_a_part_of_a_frame(
    serve: Serve, is_async: bool
) -> None:
    async def refuse(request: Request) -> AuthResult:
        return AuthResult(False)

    served = await serve(
        authenticator=refuse if is_async else lambda _: AuthResult(False), close_timeout=60.0
    )
    # Read as a frame, this payload would swallow 125 bytes more.
    payload = b"\x81\xfd" * 4
    early = b"\x82" + bytes([0x80 | len(payload)]) + bytes(4) + payload
    handshake = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: wshub.v1\r\n\r\n")
    async with raw(served) as client:
        client.writer.write(handshake + early[:6])
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        opcode, reason = await client.read_frame()
        assert (opcode, Close.parse(reason).code) == (Opcode.CLOSE, 3000)
        # The rest of the frame is no new frame, so the answer to the close frame is understood.
        client.writer.write(early[6:])
        client.writer.write(Frame(Opcode.CLOSE, Close(3000, "").serialize()).serialize(mask=True))
        assert await read_to_end(client.reader) == b""
    await eventually(lambda: not served.sockets)


async def test_a_client_that_does_not_read_its_response_is_not_read(serve: Serve) -> None:
    async def respond(request: Request) -> Response:
        return Response(200, b"x" * 8_000_000)

    served = await serve(process_request=respond, close_timeout=60.0)
    async with raw(served) as client:
        client.writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.read_head()).startswith(b"HTTP/1.1 200 ")
        cast(asyncio.Transport, client.writer.transport).pause_reading()
        sent = 0
        # Reading stops: the kernel takes what fits into its buffers, and the hub takes nothing.
        while client.writer.transport.get_write_buffer_size() < 1_000_000:
            client.writer.write(b"x" * 65_536)
            sent += 65_536
            assert sent < 100_000_000
            await asyncio.sleep(0)
        reset(client)
