import asyncio
import logging
import os
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import Served, eventually, read_to_end
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed

from wshub_core import (
    AuthResult,
    Hub,
    HubClosedError,
    HubConfig,
    HubNotStartedError,
    Request,
    ServeError,
)


async def test_a_port_in_use_raises_an_error_with_the_address(served: Served) -> None:
    port = served.server.port
    async with Hub() as hub:
        with pytest.raises(ServeError, match=f"port {port} on 127.0.0.1 is already in use"):
            async with hub.serve("127.0.0.1", port):
                pass


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("127.0.0.1", 70_000, "cannot listen on port 70000: ports are 0 to 65535"),
        ("192.0.2.1", 0, "cannot listen on 192.0.2.1 port 0"),
        ("no such host", 0, "cannot listen on no such host port 0"),
    ],
)
async def test_an_impossible_address_raises_an_error_with_the_address(
    host: str, port: int, text: str
) -> None:
    async with Hub() as hub:
        with pytest.raises(ServeError, match=text):
            async with hub.serve(host, port):
                pass


async def test_a_hub_must_be_running_to_be_served() -> None:
    hub = Hub()
    with pytest.raises(HubNotStartedError, match="async with hub"):
        async with hub.serve("127.0.0.1", 0):
            pass
    async with hub:
        pass
    with pytest.raises(HubClosedError, match="has been closed"):
        async with hub.serve("127.0.0.1", 0):
            pass


async def test_closing_the_server_ends_only_its_own_connections() -> None:
    async with Hub() as hub, hub.serve("127.0.0.1", 0) as other_server:
        server = hub.serve("127.0.0.1", 0)
        async with (
            server,
            connect(f"ws://127.0.0.1:{other_server.port}/ws", proxy=None) as other,
            connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None) as client,
        ):
            waiting = asyncio.create_task(server.serve_forever())
            await asyncio.gather(server.close(), server.close())
            await waiting
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1001
            assert hub.stats().clients == 1
            await server.close()
            await other.close()
            await eventually(lambda: hub.stats().clients == 0)


async def test_an_unfinished_handshake_does_not_delay_the_close() -> None:
    async with Hub(HubConfig(open_timeout=60.0)) as hub:
        async with hub.serve("127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /ws HTTP/1.1\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)
        assert await read_to_end(reader) == b""
        writer.close()


async def test_the_server_listens_on_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    async with Hub() as hub:
        try:
            async with (
                hub.serve("::1", 0) as server,
                connect(f"ws://[::1]:{server.port}/ws", proxy=None),
            ):
                assert hub.connections[0].remote_address.startswith("[::1]:")
        except ServeError as error:
            pytest.skip(f"no IPv6 on loopback: {error}")


async def test_the_server_listens_on_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "hub.sock")
    async with Hub() as hub:
        async with hub.serve(unix=path), unix_connect(path, "ws://localhost/ws") as client:
            hub.send_event("x")
            assert '"event":"x"' in str(await client.recv())
            assert hub.connections[0].remote_address == ""
        assert not os.path.exists(path)  # noqa: ASYNC240
        with pytest.raises(ServeError, match="cannot listen at /no/such/dir"):
            async with hub.serve(unix="/no/such/dir/hub.sock"):
                pass


async def test_incomplete_or_mixed_addresses_are_refused() -> None:
    async with Hub() as hub:
        for arguments in ({}, {"host": "x"}, {"host": "x", "port": 1, "unix": "x"}):
            with pytest.raises(ServeError, match="needs a host and a port, or unix="):
                hub.serve(**arguments)


async def test_a_client_certificate_is_in_the_request(tmp_path: Path) -> None:
    seen: list[Any] = []

    def authenticate(request: Request) -> AuthResult:
        seen.append(request.client_certificate)
        return AuthResult(True, "alice")

    certificate, key = make_certificate(tmp_path)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    server_context.load_cert_chain(certificate, key)
    server_context.verify_mode = ssl.CERT_OPTIONAL
    client_context = ssl.create_default_context(cafile=certificate)
    async with (
        Hub(HubConfig(authenticator=authenticate)) as hub,
        hub.serve("127.0.0.1", 0, ssl=server_context) as server,
    ):
        url = f"wss://127.0.0.1:{server.port}/ws"
        options: dict[str, Any] = {
            "proxy": None,
            "ssl": client_context,
            "server_hostname": "localhost",
        }
        async with connect(url, **options):
            pass
        client_context.load_cert_chain(certificate, key)
        async with connect(url, **options):
            pass
    assert seen[0] is None
    assert seen[1]["subject"] == ((("commonName", "localhost"),),)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}",
        shell=True,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return certificate, key


async def test_the_server_serves_tls(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificate, key)
    client_context = ssl.create_default_context(cafile=certificate)
    async with (
        Hub() as hub,
        hub.serve("127.0.0.1", 0, ssl=server_context) as server,
        connect(
            f"wss://127.0.0.1:{server.port}/ws",
            proxy=None,
            ssl=client_context,
            server_hostname="localhost",
        ) as client,
    ):
        for number in range(10):
            hub.send_event("n", "x" * 60_000)
            assert str(await client.recv()).startswith('{"type":"event"'), number


async def test_secrets_in_headers_stay_out_of_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with connect(
        f"ws://127.0.0.1:{served.server.port}/ws?token=secret-token",
        proxy=None,
        additional_headers={"Authorization": "Bearer secret-key"},
        logger=logging.getLogger("client").getChild("quiet"),
        max_size=None,
    ):
        served.hub.send_event("x")
    await eventually(lambda: served.hub.stats().clients == 0)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("wshub")]
    assert any("connected" in line for line in ours)
    assert not any("secret" in line for line in ours)


async def test_the_server_listens_on_given_sockets() -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [each.getsockname()[1] for each in sockets]
    async with Hub() as hub, hub.serve(sockets=sockets) as server:
        assert server.port == ports[0]
        for port in ports:
            async with connect(f"ws://127.0.0.1:{port}/ws", proxy=None):
                await eventually(lambda: len(hub.connections) == 1)
            await eventually(lambda: not hub.connections)
    # The server has closed the sockets.
    assert [each.fileno() for each in sockets] == [-1, -1]


@pytest.mark.parametrize("also", [{"host": "localhost", "port": 0}, {"unix": "x.sock"}])
async def test_given_sockets_exclude_other_addresses(also: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        async with Hub() as hub:
            with pytest.raises(ServeError, match="or sockets="):
                hub.serve(sockets=[bound], **also)
