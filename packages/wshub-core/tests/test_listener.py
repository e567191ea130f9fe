"""The listener: sockets of all kinds, and a process without free descriptors."""

import asyncio
import os
import resource
import socket
import ssl
import time
from pathlib import Path

import pytest
from support import Serve, Served, WireClient, eventually
from websockets.asyncio.client import connect, unix_connect

from wshub_core import Hub, HubConfig, ServeError


async def test_accepting_pauses_without_descriptors_and_resumes(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    client = await served.connect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # These sockets have their descriptors before the limit; the server has none left.
    waiting = [socket.socket() for _ in range(5)]
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        for each in waiting:
            each.setblocking(False)
            await asyncio.get_running_loop().sock_connect(each, ("127.0.0.1", served.server.port))
        await eventually(lambda: "no connections are accepted" in caplog.text)
        started = time.monotonic()
        # Connected clients are served meanwhile.
        await client.sync()
        await asyncio.sleep(1.2)
        await client.sync()
        # One record for each pause. The first pause began before `started`.
        most = 2 + (time.monotonic() - started) / 0.5
        assert caplog.text.count("no connections are accepted") <= most
        assert "system resource" not in caplog.text
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    other = await served.connect()
    await other.sync()
    for each in waiting:
        each.close()


async def test_a_new_server_replaces_the_unix_socket_of_an_old_server(tmp_path: Path) -> None:
    path = str(tmp_path / "hub")
    async with Hub() as hub:
        old = await hub.serve(unix=Path(path)).__aenter__()
        new = await hub.serve(unix=path).__aenter__()
        await old.close()
        async with unix_connect(path, "ws://localhost/ws") as connection:
            await WireClient(connection).sync()
        await new.close()
        assert not os.path.exists(path)  # noqa: ASYNC240


async def test_a_unix_path_that_was_removed_or_replaced_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "hub"
    async with Hub() as hub:
        async with hub.serve(unix=str(path)):
            path.unlink()
        async with hub.serve(unix=str(path)):
            path.unlink()
            path.write_text("somebody's file")
        assert path.read_text() == "somebody's file"


async def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "hub"
    path.write_text("somebody's file")
    async with Hub() as hub:
        with pytest.raises(ServeError, match="cannot listen at"):
            await hub.serve(unix=str(path)).__aenter__()
    assert path.read_text() == "somebody's file"


async def test_an_abstract_socket_has_no_file(tmp_path: Path) -> None:
    name = f"\0wshub-test-{os.getpid()}-{tmp_path.name}"
    async with Hub() as hub, hub.serve(unix=name) as server:
        assert (server.port, server.addresses) == (0, ())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(name)
            client.setblocking(False)
            # uvloop cannot connect to an abstract name, so the socket is connected before.
            async with unix_connect(uri="ws://localhost/ws", sock=client) as connection:
                await WireClient(connection).sync()


async def test_inherited_sockets_of_both_families(tmp_path: Path) -> None:
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "hub"))
    tcp = socket.create_server(("127.0.0.1", 0))
    port = tcp.getsockname()[1]
    async with Hub() as hub, hub.serve(sockets=[unix, tcp]) as server:
        assert (server.port, server.addresses) == (port, ("127.0.0.1",))
        async with unix_connect(str(tmp_path / "hub"), "ws://localhost/ws") as connection:
            await WireClient(connection).sync()
        async with connect(f"ws://127.0.0.1:{port}/ws", proxy=None) as connection:
            await WireClient(connection).sync()
    # The server has not created the path, so it does not remove the path.
    assert (tmp_path / "hub").exists()


async def test_an_inherited_unix_socket_alone_has_port_0(tmp_path: Path) -> None:
    inherited = socket.socket(socket.AF_UNIX)
    inherited.bind(str(tmp_path / "t"))
    async with Hub() as hub, hub.serve(sockets=[inherited]) as server:
        assert (server.port, server.addresses) == (0, ())


async def test_a_datagram_socket_is_refused() -> None:
    wrong = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wrong.bind(("127.0.0.1", 0))
    async with Hub() as hub:
        with pytest.raises(ServeError, match="cannot listen on the given sockets"):
            await hub.serve(sockets=[wrong]).__aenter__()


async def test_closing_the_server_ends_a_tls_handshake_that_hangs(serve: Serve) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    config = HubConfig(open_timeout=60, close_timeout=60)
    async with asyncio.timeout(5):
        async with Hub(config) as hub, hub.serve("127.0.0.1", 0, ssl=context) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.sleep(0.05)
        assert await reader.read() == b""
        writer.close()


async def test_many_simultaneous_connections_are_all_accepted(served: Served) -> None:
    clients = await asyncio.gather(*(served.connect() for _ in range(200)))
    await asyncio.gather(*(client.sync() for client in clients))
