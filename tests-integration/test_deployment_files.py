"""The files for deployments: each is checked by the tool that reads it, or by its linter."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from deployment import FILES, HubProcess, find_program
from websockets.asyncio.client import connect

from wshub_core.cli.commands import main

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).parent / "wshub"


def check(*command: str | Path) -> str:
    """Run a checker; fail with its output if it complains. Return its standard output."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_settings_are_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", str(FILES / "wshub.toml")]) == 0
    assert capsys.readouterr().out.endswith("is valid\n")


def test_hadolint_accepts_the_dockerfile() -> None:
    check(find_program("hadolint"), FILES / "Dockerfile")


def test_the_dockerfile_copies_and_installs_what_exists() -> None:
    text = (FILES / "Dockerfile").read_text()
    for path in re.findall(r"/src/(packages/[\w-]+)", text):
        assert (ROOT / path / "pyproject.toml").is_file()
    assert len(re.findall(r"/src/packages/", text)) == 4
    # The build context holds what the packages need to be built.
    ignored = (FILES / "Dockerfile.dockerignore").read_text().splitlines()
    assert [line for line in ignored if line and not line.startswith("#")] == [
        *("*", "!packages", "packages/*/tests", "**/__pycache__"),
    ]


async def test_the_health_check_of_the_image_asks_the_hub_and_no_proxy() -> None:
    text = (FILES / "Dockerfile").read_text()
    command = json.loads(re.findall(r"HEALTHCHECK .*\\\n +CMD (.*)", text)[0])
    assert command[0] == "python"
    hub = HubProcess("--drain-window", "600")
    environment = {"WSHUB_PORT": str(hub.port), "http_proxy": "http://127.0.0.1:1"}

    async def check_health() -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command[1:]),
            env=os.environ | environment,
            stderr=subprocess.DEVNULL,
        )
        return await process.wait()

    assert await check_health() != 0
    await hub.start()
    try:
        assert await check_health() == 0
        url = f"ws://127.0.0.1:{hub.port}/ws"
        async with connect(url, proxy=None) as first, connect(url, proxy=None) as second:
            ending = asyncio.create_task(hub.terminate())
            closes = [asyncio.create_task(each.wait_closed()) for each in (first, second)]
            await asyncio.wait(closes, return_when=asyncio.FIRST_COMPLETED)
            assert await check_health() != 0
        await ending
    finally:
        await hub.kill()


def test_compose_accepts_its_file() -> None:
    check(find_program("docker-compose"), "--file", FILES / "compose.yaml", "config", "--quiet")
    text = (FILES / "compose.yaml").read_text()
    for path in re.findall(r"- \./([\w.]+):", text):
        assert (FILES / path).is_file()


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with the command of this environment."""
    for name in ("wshub.service", "wshub.socket"):
        text = (FILES / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/wshub/bin/wshub", str(COMMAND)))
    return tmp_path


def test_systemd_accepts_the_units(units: Path) -> None:
    check(
        *(find_program("systemd-analyze"), "verify", "--man=no"),
        *(units / "wshub.service", units / "wshub.socket"),
    )


async def test_the_command_of_the_unit_serves_the_socket_of_systemd(units: Path) -> None:
    """`systemd-socket-activate` of systemd passes the socket on, as systemd itself does."""
    activate = find_program("systemd-socket-activate")
    unit = (units / "wshub.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.M)
    settings = units / "wshub.toml"
    # Without Redis, which the test does not need.
    text = (FILES / "wshub.toml").read_text()
    settings.write_text(re.sub(r"^redis = .*$", "", text, flags=re.M))
    path = units / "wshub.sock"
    process = await asyncio.create_subprocess_exec(
        *(activate, f"--listen={path}"),
        *command.replace("/etc/wshub/wshub.toml", str(settings)).split(),
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while not path.exists():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_every_file_is_mentioned_in_the_guide() -> None:
    guide = (ROOT / "docs/howto/run-in-production.md").read_text()
    for path in FILES.iterdir():
        assert f"examples/deploy/{path.name}\n" in guide or f"/{path.name}`" in guide
