"""Sockets from a service manager."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support import WSHUB, WireClient
from websockets.asyncio.client import connect, unix_connect

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such sockets")


ACTIVATOR = """
import fcntl, os, sys
process_id, *descriptors, count = sys.argv[1:]
# Copies above all others first, so that no descriptor is replaced before its turn.
copies = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in descriptors[:int(count)]]
for number, copy in enumerate(copies):
    os.dup2(copy, 3 + number)
os.environ |= {"LISTEN_PID": process_id or str(os.getpid()), "LISTEN_FDS": count}
os.execv(sys.executable, [sys.executable, "-c", COMMAND, "serve", *descriptors[int(count):]])
"""
"""A service manager: it passes its descriptors on as 3, 4 and so on."""


@asynccontextmanager
async def activated(
    *descriptors: int, options: Sequence[str] = (), process_id: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start the command as a service manager does.

    Args:
        *descriptors: The descriptors to pass on.
        options: Options of the command.
        process_id: The process for which the descriptors are meant; the command if empty.
    """
    arguments = (process_id, *map(str, descriptors), *options, str(len(descriptors)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"COMMAND = {WSHUB!r}\n{ACTIVATOR}", *arguments),
        pass_fds=descriptors,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def listen(path: Path | None = None) -> socket.socket:
    """Listen at a unix socket, or at a free port."""
    if path is None:
        opened = socket.create_server(("127.0.0.1", 0))
    else:
        opened = socket.socket(socket.AF_UNIX)
        opened.bind(str(path))
        opened.listen()
    return opened


async def test_a_service_serves_the_sockets_that_it_gets(tmp_path: Path) -> None:
    path = tmp_path / "wshub.sock"
    with listen() as tcp, listen(path) as unix:
        async with activated(tcp.fileno(), unix.fileno()) as process:
            url = f"ws://127.0.0.1:{tcp.getsockname()[1]}/ws"
            async with connect(url, proxy=None, open_timeout=20) as socket:
                await WireClient(socket).sync()
            async with unix_connect(str(path), "ws://localhost/ws") as socket:
                await WireClient(socket).sync()
            process.send_signal(signal.SIGTERM)
            output, errors = await process.communicate()
            assert (process.returncode, output, errors) == (130, b"", b"")


async def test_a_proxy_may_pass_on_any_host_to_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "wshub.sock"
    with listen(path) as unix:
        async with (
            activated(unix.fileno()),
            unix_connect(str(path), "ws://app.example/ws", open_timeout=20) as socket,
        ):
            await WireClient(socket).sync()


async def test_no_client_is_refused_while_a_service_restarts() -> None:
    with listen() as tcp:
        url = f"ws://127.0.0.1:{tcp.getsockname()[1]}/ws"
        async with activated(tcp.fileno()) as process:
            async with connect(url, proxy=None, open_timeout=20) as socket:
                process.send_signal(signal.SIGTERM)
                await socket.wait_closed()
                assert socket.close_code == 1001
            await process.wait()
        # The kernel keeps the client until the service listens again.
        dialing = asyncio.create_task(connect(url, proxy=None, open_timeout=20).__aenter__())
        async with activated(tcp.fileno()):
            await WireClient(await dialing).sync()
            await (await dialing).close()


async def test_sockets_for_another_process_are_left_alone() -> None:
    with listen() as tcp:
        async with activated(tcp.fileno(), options=("--port", "0"), process_id="1") as process:
            assert process.stdout is not None
            port = int((await process.stdout.readline()).rsplit(b":", 1)[1].strip(b"/\n"))
            assert port != tcp.getsockname()[1]


async def test_other_descriptors_are_an_error(tmp_path: Path) -> None:
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with Path(os.devnull).open() as file, datagram:  # noqa: ASYNC230 - no disk
        for descriptor, expected in [
            (file.fileno(), b"wshub: descriptor 3 of the service manager is no socket"),
            (datagram.fileno(), b"wshub: descriptor 3 of the service manager is no stream socket"),
        ]:
            async with activated(descriptor) as process:
                _, errors = await process.communicate()
                assert process.returncode == 1
                assert errors.startswith(expected)
                assert errors.count(b"\n") == 1
