"""The standard streams of the command: closed, full, or without a reader."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
from support import PATIENCE_SECONDS, WSHUB, WireClient
from websockets.asyncio.client import connect

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the shell of POSIX")

NO_UVLOOP = f"import sys; sys.modules['uvloop'] = None; {WSHUB}"


def find_free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


async def dial(port: int, process: asyncio.subprocess.Process) -> WireClient:
    """Connect as soon as the command listens."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return WireClient(await connect(f"ws://127.0.0.1:{port}/ws", proxy=None))
            except ConnectionRefusedError:
                assert process.returncode is None
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("code", [WSHUB, NO_UVLOOP])
@pytest.mark.parametrize(
    "streams", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "without a reader"]
)
async def test_a_hub_serves_whatever_its_standard_streams_are(code: str, streams: str) -> None:
    port = find_free_port()
    options = ("--host", "127.0.0.1", "--port", str(port), "--admin", "--admin-port", "0")
    reader, writer = os.pipe()
    os.close(reader)
    redirections = "" if streams == "without a reader" else streams
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-c", code, "serve"),
        *options,
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writer)
    try:
        client = await dial(port, process)
        await client.sync()
        process.terminate()
        await client.socket.wait_closed()
        assert client.socket.close_code == 1001
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (130, b"")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_terminal_without_unicode_shows_a_question_mark(tmp_path: Path) -> None:
    path = tmp_path / "süß.toml"
    path.write_text("port = 0")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WSHUB, "check-config", str(path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "WSHUB_CONFIG": ""},
    )
    output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert output.endswith(b"s??.toml is valid\n")


async def test_an_error_without_standard_error_is_a_status() -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-c", WSHUB, "check-config", "/")
    )
    assert await process.wait() == 1
