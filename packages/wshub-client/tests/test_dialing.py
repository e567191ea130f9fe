"""Dials to servers that are no hubs, or that refuse."""

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from client_servers import QUICK, Log, hang_up, run, tcp_server

from wshub_client import DialError, ReconnectingClient, RefusedError, RetriesExhaustedError
from wshub_core import Hub, InvalidConfigError

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


def http(status: str, body: bytes = b"", *headers: str) -> Any:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return answer


async def say_ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await reader.read()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (http("200 OK", b"welcome"), "answered 200 welcome"),
        (http("404 Not Found", b"nothing here\nat all"), "answered 404 nothing here"),
        (http("500 Internal Server Error"), "answered 500 Internal Server Error"),
        (http("101 Switching Protocols"), "is no WebSocket server"),
        (say_ssh, "is no WebSocket server"),
        (hang_up, "is no WebSocket server"),
        (say_nothing, "has not answered within 0.2 s"),
    ],
)
async def test_a_server_that_is_no_hub_is_a_failed_dial(handler: Any, text: str) -> None:
    async with tcp_server(handler) as url:
        timeout = 0.2 if handler is say_nothing else 10.0
        options = QUICK | {"open_timeout": timeout, "max_attempts": 1}
        log = Log()
        client = ReconnectingClient(url + "?token=s3cret", on_error=log.note_error, **options)
        error = await run(client)
    assert isinstance(error, RetriesExhaustedError)
    assert str(error) == "max retries (1) exceeded"
    assert log.entries == ["DialError", "RetriesExhaustedError"]
    for failure in (log.errors[0], error.__cause__):
        assert isinstance(failure, DialError)
        assert text in str(failure)
        assert "s3cret" not in str(failure)


async def test_a_port_without_a_listener_is_a_failed_dial() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    error = await run(ReconnectingClient(f"ws://127.0.0.1:{port}/ws", max_attempts=2, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert f"cannot connect to ws://127.0.0.1:{port}/ws" in str(error.__cause__)


async def test_an_unknown_host_is_a_failed_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    error = await run(ReconnectingClient("ws://hub.invalid/ws", max_attempts=1, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert "Name or service not known" in str(error.__cause__)


async def test_tls_with_a_server_without_tls_is_a_failed_dial(url: str) -> None:
    secure = url.replace("ws://", "wss://")
    error = await run(ReconnectingClient(secure, max_attempts=1, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert isinstance(error.__cause__, DialError)
    assert f"cannot connect to {secure}: " in str(error.__cause__)
    with pytest.raises(InvalidConfigError, match="ssl goes with wss"):
        ReconnectingClient(url, ssl=ssl.create_default_context())


async def test_a_self_signed_certificate_is_accepted_only_if_the_context_trusts_it(
    hub: Hub, tmp_path: Path
) -> None:
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost -keyout key.pem -out certificate.pem"
    )
    await asyncio.to_thread(
        subprocess.run, command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    async with hub.serve("localhost", 0, ssl=context) as server:
        url = f"wss://localhost:{server.port}/ws"
        error = await run(ReconnectingClient(url, max_attempts=1, **QUICK))
        assert isinstance(error, RetriesExhaustedError)
        assert "TLS" in str(error.__cause__)
        assert "self-signed certificate" in str(error.__cause__)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
        async with ReconnectingClient(url, ssl=trusting) as client:
            await client.subscribe("news", confirm=True)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(hub: Hub, url: str, status: int) -> None:
    location = f"Location: {url}?token=s3cret"
    async with tcp_server(http(f"{status} Elsewhere", b"", location)) as elsewhere:
        error = await run(ReconnectingClient(elsewhere, token="mine", **QUICK))
    assert isinstance(error, RefusedError)
    assert error.status == status
    assert error.reason == f"the server redirects to {url}; use that address if you trust it"
    assert hub.stats().connections == 0


@pytest.mark.parametrize(
    "headers",
    [("Retry-After: 1", "Retry-After: 2"), ("Location: /a", "Location: /b")],
)
async def test_repeated_headers_of_a_response_do_not_end_the_client(
    headers: tuple[str, str],
) -> None:
    async with tcp_server(http("503 Away", b"", *headers)) as url:
        error = await run(ReconnectingClient(url, max_attempts=0, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert isinstance(error.__cause__, DialError)
