"""The commands in the guide to the HTTP API, in their order, with curl and a real server."""

import asyncio
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from demo_process import free_port
from support import PATIENCE_SECONDS, WSHUB

from wshub_core.endpoints.api.errors import HUB_ERRORS, explain
from wshub_core.endpoints.api.operations import OPERATIONS

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs/howto/http-api.md"
REFERENCE = ROOT / "docs/reference/http-api.md"

BLOCKS = re.findall(r"^```(console|python)\n(.*?)^```", GUIDE.read_text(), re.M | re.S)


KEY_OF_PROGRAM = "secret-key-2"


class Shell:
    """A shell that runs one command after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, command: str) -> str:
        """Return the output of a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho '<end>'\n".encode())
        async with asyncio.timeout(PATIENCE_SECONDS):
            return (await self._process.stdout.readuntil(b"<end>\n")).decode()[:-6]

    async def wait_until(self, command: str, text: str) -> None:
        """Run a command until its output contains a text."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while text not in await self.run(command):  # noqa: ASYNC110 - it runs elsewhere
                await asyncio.sleep(0.02)


@asynccontextmanager
async def process(
    folder: Path, *command: str, pipe: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command in a folder, and kill it at the end."""
    started = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield started
    finally:
        started.kill()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await started.communicate()


def commands_of(block: str) -> list[tuple[str, str]]:
    """Return each command with its output."""
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M)
    assert "".join(f"$ {command}\n{output}" for command, output in found) == block
    return found


def matches(expected: str, output: str) -> bool:
    """Return whether an output is the expected one, in which … stands for any text."""
    pattern = ".*".join(map(re.escape, expected.strip().split("…")))
    return re.fullmatch(pattern, output.strip()) is not None


class Reader:
    """A reader of the guide, who does what it says.

    Args:
        folder: The working directory.
        shell: The shell of the reader.
        servers: Holds the server that runs.
        port: The port of the servers.
    """

    def __init__(self, folder: Path, shell: Shell, servers: AsyncExitStack, port: int) -> None:
        self._folder = folder
        self._shell = shell
        self._servers = servers
        self._port = port
        self.ran = 0

    async def follow(self, command: str, expected: str) -> None:
        """Run a command of the guide, and compare its output."""
        if command.startswith("wshub serve"):
            arguments = [*shlex.split(command)[1:], "--port", str(self._port)]
            await self._serve("/api/v1", "-c", WSHUB, *arguments)
        elif "wshub listen" in command:
            await self._listen(command)
        else:
            output = await self._shell.run(command)
            assert matches(expected, output), f"{command}\n{output}"
            self.ran += 1

    async def start(self, program: str) -> None:
        """Run a program of the guide, if it serves."""
        if "serve_forever" in program:
            (self._folder / "program.py").write_text(program)
            await self._servers.aclose()
            await self._serve("/v1", "program.py")

    async def _serve(self, path: str, *arguments: str) -> None:
        server = process(self._folder, sys.executable, *arguments)
        await self._servers.enter_async_context(server)
        document = f"curl -s http://localhost:{self._port}{path}/openapi.json"
        await self._shell.wait_until(document, "3.1")

    async def _listen(self, command: str) -> None:
        wshub = f"{shlex.quote(sys.executable)} -c {shlex.quote(WSHUB)}"
        background = command.replace("wshub", wshub)
        await self._shell.run(f"{{ {background} & }} >listened 2>&1; listener=$!")
        await self._shell.wait_until(
            f"curl -s --json '{{}}' -H 'Authorization: Bearer {KEY_OF_PROGRAM}' "
            f"http://localhost:{self._port}/v1/stats",
            '"subscribers":1',
        )


async def test_the_commands_of_the_guide_have_the_outputs_in_the_guide(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.fail("curl is not on PATH; version 7.82 or newer is needed")
    port = free_port()
    async with (
        process(tmp_path, "bash", pipe=asyncio.subprocess.PIPE) as bash,
        AsyncExitStack() as servers,
    ):
        shell = Shell(bash)
        await shell.run("export no_proxy='*'")
        reader = Reader(tmp_path, shell, servers, port)
        for kind, block in BLOCKS:
            text = block.replace("8080", str(port))
            if kind == "python":
                await reader.start(text)
            else:
                for command, expected in commands_of(text):
                    await reader.follow(command, expected)
        # The guide has disconnected the user, so the client has ended.
        listened = await shell.run("wait $listener; cat listened")
    assert "only for you" in listened
    assert reader.ran > 20


def test_the_reference_has_every_error() -> None:
    table = REFERENCE.read_text().partition("## Errors")[2]
    documented = set(re.findall(r"`([a-z_]+)`", table))
    sources = (ROOT / "packages/wshub-core/src/wshub_core/endpoints/api").glob("*.py")
    raised = re.findall(
        r"(?:APIError\(\s*[\w.]+,|_invalid\()\s*\"(\w+)\"", "".join(map(Path.read_text, sources))
    )
    assert len(raised) > 10
    hub_codes = {explain(kind.__new__(kind)).detail.code for kind in HUB_ERRORS}
    # The authorizer of presence is asked for clients only, and not for keys.
    assert {*raised, *hub_codes} - {"presence_denied"} <= documented


def test_the_reference_has_every_operation_with_its_scope() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(publish|read|manage)` \|", REFERENCE.read_text(), re.M)
    assert rows == [(each.name, each.scope) for each in OPERATIONS.values()]
