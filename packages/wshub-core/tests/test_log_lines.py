"""The log of a hub: one line for each refusal and for each abnormal end, and never a secret."""

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import pytest
from metrics_site import ask
from support import PATIENCE_SECONDS, Serve, Served, eventually, read_to_end
from websockets.exceptions import InvalidStatus

from wshub_core import AuthError, AuthResult, Hub, HubConfig, Request

SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "wshub")
    return caplog


def lines(log: pytest.LogCaptureFixture, name: str, level: int = logging.INFO) -> list[Any]:
    """Return the records of a logger at a level or above it."""
    return [each for each in log.records if each.name == name and each.levelno >= level]


async def send_raw(served: Served, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    writer.write(data)
    try:
        return await read_to_end(reader)
    finally:
        writer.close()


def authenticate(request: Request) -> AuthResult:
    return AuthResult(request.header("authorization") is None, "alice")


HANDSHAKE = (
    b"%s %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"
)
PATH = b"/ws?token=" + SECRET.encode()


@pytest.mark.parametrize(
    ("request_bytes", "status", "code", "level"),
    [
        (HANDSHAKE % (b"GET", PATH, b"Origin: http://x\r\n"), 403, "origin_not_allowed", 30),
        (
            HANDSHAKE % (b"GET", PATH, f"Authorization: Bearer {SECRET}\r\n".encode()),
            401,
            "unauthorized",
            20,
        ),
        (HANDSHAKE % (b"POST", PATH, f"Cookie: id={SECRET}\r\n".encode()), 405, "no_handshake", 20),
        (HANDSHAKE % (b"GET", PATH, b"Sec-WebSocket-Key: x\r\n"), 400, "invalid_handshake", 20),
        (b"GET /ws HTTP/1.1\r\nbroken header\r\n\r\n", 400, "malformed_request", 20),
        (b"GET /ws?" + b"x" * 9_000 + b" HTTP/1.1\r\n\r\n", 414, "line_too_long", 20),
        (b"GET /ws HTTP/1.1\r\nX: " + b"x" * 9_000 + b"\r\n\r\n", 431, "line_too_long", 20),
        (b"\x16\x03\x01\n\n", 0, "not_http", 20),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_refused_handshake_is_one_line(
    serve: Serve,
    log: pytest.LogCaptureFixture,
    request_bytes: bytes,
    status: int,
    code: str,
    level: int,
) -> None:
    served = await serve(authenticator=authenticate)
    answer = await send_raw(served, request_bytes)
    if status:
        assert answer.startswith(b"HTTP/1.1 %d" % status)
    (record,) = lines(log, "wshub.admission")
    assert (record.status, record.code, record.levelno) == (status, code, level)
    assert record.address.startswith("127.0.0.1:")
    assert record.path in ("/ws", "")
    assert code in record.getMessage()
    assert served.hub.stats().refused_handshakes == 1
    assert SECRET not in log.text


async def test_a_full_and_a_closed_hub_are_named(
    serve: Serve, log: pytest.LogCaptureFixture
) -> None:
    served = await serve(max_connections=1)
    await served.connect()
    with pytest.raises(InvalidStatus):
        await served.connect()
    await served.hub.close()
    with pytest.raises(InvalidStatus):
        await served.connect()
    codes = [each.code for each in lines(log, "wshub.admission")]
    assert codes == ["too_many_connections", "hub_not_running"]


async def test_a_path_cannot_forge_a_line_or_fill_the_log(
    serve: Serve, log: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(Hub(HubConfig(authenticator=authenticate)))
        server = hub.serve("127.0.0.1", 0, path="/" + "p" * 5_000)
        served = Served(hub, await stack.enter_async_context(server), stack)
        header = f"Authorization: {SECRET}\r\n".encode()
        await send_raw(served, HANDSHAKE % (b"GET", b"/" + b"p" * 5_000, header))
        (record,) = lines(log, "wshub.admission")
        assert len(record.getMessage()) < 400
        assert len(record.path) == 200
    served = await serve()
    origin = "x" * 5_000 + "\x1b[31m"
    await send_raw(served, HANDSHAKE % (b"GET", b"/ws", b"Origin: %s\r\n" % origin.encode()))
    (*_, record) = lines(log, "wshub.admission")
    assert len(record.getMessage()) < 400
    assert "\x1b" not in record.getMessage()


async def test_a_flood_of_refusals_is_a_few_lines(
    serve: Serve, log: pytest.LogCaptureFixture
) -> None:
    served = await serve()
    for _ in range(50):
        await send_raw(served, HANDSHAKE % (b"GET", b"/ws", b"Origin: http://x\r\n"))
    await send_raw(served, b"\x16\x03\x01\n\n")
    codes = [each.code for each in lines(log, "wshub.admission")]
    # Another reason has lines of its own.
    assert codes == ["origin_not_allowed"] * 5 + ["not_http"]
    assert served.hub.stats().refused_handshakes == 51


async def test_an_abnormal_end_is_one_line(served: Served, log: pytest.LogCaptureFixture) -> None:
    client = await served.connect()
    client.socket.transport.abort()
    await eventually(lambda: served.hub.stats().clients == 0)
    (record,) = lines(log, "wshub.connections")
    assert (record.cause, record.code) == ("lost", 1006)
    assert record.address.startswith("127.0.0.1:")
    assert 0 <= record.duration < PATIENCE_SECONDS
    assert "ended: lost, code 1006, after 0." in record.getMessage()


async def test_a_violation_of_the_protocol_is_one_line(
    served: Served, log: pytest.LogCaptureFixture
) -> None:
    client = await served.connect(max_size=None)
    await client.socket.send("x" * 70_000)
    await eventually(lambda: served.hub.stats().clients == 0)
    await client.socket.wait_closed()
    await eventually(lambda: bool(lines(log, "wshub.connections")))
    (record,) = lines(log, "wshub.connections")
    assert (record.cause, record.code) == ("protocol_error", 1009)


async def test_an_evicted_client_is_one_warning(
    serve: Serve, log: pytest.LogCaptureFixture
) -> None:
    served = await serve(max_outbox_bytes=100_000, close_timeout=0.1)
    client = await served.connect(max_queue=1)
    await client.subscribe("a")
    client.socket.transport.pause_reading()
    while served.hub.stats().clients:
        served.hub.publish_event("a", "x" * 50_000)
        await asyncio.sleep(0)
    await eventually(lambda: bool(lines(log, "wshub.connections")))
    (record,) = lines(log, "wshub.connections")
    assert (record.cause, record.code, record.levelname) == ("slow_consumer", 1013, "WARNING")
    client.socket.transport.abort()


async def test_ordinary_ends_are_only_in_the_access_log(
    served: Served, log: pytest.LogCaptureFixture
) -> None:
    client, other = await served.connect(), await served.connect()
    await client.socket.close(1000, "line\nbreak")
    await eventually(lambda: served.hub.stats().clients == 1)
    await served.hub.connections[0].close(4000, "bye")
    await other.socket.wait_closed()
    await eventually(lambda: len(lines(log, "wshub.access", logging.DEBUG)) == 4)
    assert lines(log, "wshub.connections") == []
    access = lines(log, "wshub.access", logging.DEBUG)
    texts = [each.getMessage().partition("> ")[2] for each in access]
    assert texts[:2] == ["connected"] * 2
    assert texts[2].startswith("disconnected: client_closed, code 1000, after 0.")
    assert texts[3].startswith("disconnected: server_closed, code 4000, after 0.")
    assert all(each.levelno == logging.DEBUG for each in access)
    assert "break" not in log.text


@pytest.fixture
async def web(serve: Serve) -> Served:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fail":
            raise ValueError
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"12345"})

    return await serve(http_app=app)


async def test_a_request_is_one_line_of_the_access_log(
    web: Served, log: pytest.LogCaptureFixture
) -> None:
    port = web.server.port
    for method, path in ("GET", f"/page?token={SECRET}"), ("POST", "/a%0ab"), ("HEAD", "/x"):
        headers = {"authorization": SECRET, "cookie": SECRET}
        await asyncio.to_thread(ask, port, method, path, **headers)
    await asyncio.to_thread(ask, port, "GET", "/fail")
    await eventually(lambda: len(lines(log, "wshub.access", logging.DEBUG)) == 4)
    access = lines(log, "wshub.access", logging.DEBUG)
    assert [(each.method, each.path, each.status, each.bytes) for each in access] == [
        ("GET", "/page", 201, 5),
        ("POST", "/a%0ab", 201, 5),
        ("HEAD", "/x", 201, 0),
        ("GET", "/fail", 500, 0),
    ]
    assert access[0].address.startswith("127.0.0.1:")
    assert "GET '/page': 201, 5 bytes in 0." in access[0].getMessage()
    assert SECRET not in log.text


async def test_texts_of_authenticators_and_proxies_are_escaped(
    log: pytest.LogCaptureFixture,
) -> None:
    def refuse(request: Request) -> AuthResult:
        return AuthResult(False, error=AuthError("no user 'x\n\x1b[31mforged'"))

    async with Hub(HubConfig(authenticator=refuse)) as hub:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/ws",
            "query_string": b"",
            "headers": [],
            "client": ("1.2.3.4\x9b31m\nforged", 0),
        }

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            pass

        await hub.asgi()(scope, receive, send)
    (record,) = lines(log, "wshub.admission")
    assert record.getMessage().isprintable()
    assert record.address == r"1.2.3.4\x9b31m\nforged:0"
