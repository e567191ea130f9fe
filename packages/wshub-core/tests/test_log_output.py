"""The log of ``wshub serve``: text and JSON, levels, and the access log."""

import asyncio
import json
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_site import ask, scrape, value
from support import PATIENCE_SECONDS, WSHUB, wshub
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from wshub_core.cli.log_output import JSONFormatter, TextFormatter

SECRET = "s3cr3t"


async def port_of(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        line = (await process.stdout.readline()).decode()
        await process.stdout.readline()
    return int(line.rstrip("/\n").rpartition(":")[2])


async def provoke_and_end(process: asyncio.subprocess.Process) -> list[str]:
    """Be refused, come and go, ask for a page, and end the command; return its lines."""
    port = await port_of(process)
    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"id={SECRET}"}
    uri = f"ws://127.0.0.1:{port}/ws?token={SECRET}"
    with pytest.raises(InvalidStatus):
        await connect(uri, proxy=None, additional_headers=headers, origin=Origin("http://foreign"))
    async with connect(uri, proxy=None, additional_headers=headers) as client:
        await client.ping()
    await asyncio.to_thread(ask, port, "GET", f"/?token={SECRET}", **headers)
    process.terminate()
    _, errors = await process.communicate()
    assert SECRET not in errors.decode()
    return errors.decode().splitlines()


async def test_without_a_terminal_the_log_is_json() -> None:
    async with wshub("serve", "--port", "0") as process:
        (line,) = map(json.loads, await provoke_and_end(process))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert "origin 'http://foreign'" in line.pop("message")
    assert line.pop("address").startswith("127.0.0.1:")
    assert line == {
        "level": "warning",
        "logger": "wshub.admission",
        "process": process.pid,
        "status": 403,
        "code": "origin_not_allowed",
        "path": "/ws",
    }


async def test_text_and_the_access_log_on_demand() -> None:
    options = ("--log-format", "text", "--access-log")
    async with wshub("serve", "--port", "0", *options) as process:
        lines = await provoke_and_end(process)
    head = f"wshub[{process.pid}]: "
    assert all(line.startswith(head) for line in lines)
    refused, opened, closed, page = (line.removeprefix(head) for line in lines)
    assert "403 origin_not_allowed" in refused
    assert opened.startswith("<Connection 1 from 127.0.0.1:")
    assert ": client_closed, code 1000, after 0." in closed
    assert "GET '/': 200, " in page


async def test_levels_choose_the_lines() -> None:
    async with wshub("serve", "--port", "0", "--log-level", "error") as process:
        assert await provoke_and_end(process) == []
    async with wshub("serve", "--port", "0", "--log-level", "debug") as process:
        lines = [json.loads(line) for line in await provoke_and_end(process)]
        # Debug lines of other packages may hold secrets.
        assert all(line["logger"].startswith("wshub.") for line in lines)
        assert not any(line["logger"] == "wshub.access" for line in lines)


def test_in_a_terminal_the_log_is_text() -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", WSHUB, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
    )
    os.close(follower)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
        ask(port, "POST", "/ws")
        line = os.read(leader, 1_000).decode()
        assert line.startswith(f"wshub[{process.pid}]: refused a request for '/ws' from 127.0.0.1")
    finally:
        process.terminate()
        process.communicate()
        os.close(leader)


async def test_the_command_serves_its_metrics_on_demand() -> None:
    async with wshub("serve", "--port", "0") as process:
        assert (await asyncio.to_thread(ask, await port_of(process)))[0] == 404
    async with wshub("serve", "--port", "0", "--metrics") as process:
        port = await port_of(process)
        assert value(await scrape(port), "wshub_connections") == 0
        # A foreign page must not read them by DNS rebinding.
        assert (await asyncio.to_thread(ask, port, host="foreign.example"))[0] == 403


@pytest.mark.parametrize(
    ("code", "options", "error"),
    [
        (
            WSHUB,
            ("--workers", "2", "--redis", "redis://x"),
            "metrics needs one worker: ",
        ),
        (
            "import sys; sys.modules['prometheus_client'] = None; " + WSHUB,
            (),
            "metrics needs prometheus-client: install wshub-core[metrics]",
        ),
    ],
)
async def test_metrics_that_are_not_possible_are_one_clear_line(
    code: str, options: tuple[str, ...], error: str, tmp_path: Path
) -> None:
    config = tmp_path / "wshub.toml"
    config.write_text("metrics = true\n" + 'redis = "redis://x"\nworkers = 2\n' * bool(options))
    async with wshub("check-config", str(config), code=code) as process:
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert errors.decode().startswith(f"wshub: {error}")
    async with wshub("serve", "--port", "0", "--metrics", *options, code=code) as process:
        _, errors = await process.communicate()
        assert process.returncode == 1
        (line,) = errors.decode().splitlines()
        assert line.startswith(f"wshub: {error}")


ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary()),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(st.text(st.characters()), st.dictionaries(st.sampled_from(["code", "path", "x"]), ANY))
def test_each_record_is_one_json_object_in_one_line(text: str, extra: dict[str, Any]) -> None:
    record = logging.getLogger("a").makeRecord(
        "a", logging.INFO, "f.py", 1, "%s", (text,), None, extra=extra
    )
    line = JSONFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert json.loads(line)["message"] == text
    assert extra.keys() <= json.loads(line).keys()


class WithoutStr:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        return "WithoutStr()"


class WithoutText(WithoutStr):
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({("a", 1): 2}, "{('a', 1): 2}"),
        (float("nan"), "nan"),
        ({"a": b"x"}, {"a": "b'x'"}),
        pytest.param(10**5_000, "<int without a text>", id="huge"),
        pytest.param(WithoutStr(), "WithoutStr()", id="without str"),
        pytest.param(WithoutText(), "<WithoutText without a text>", id="without text"),
    ],
)
def test_a_line_is_complete_whatever_other_packages_add(value: Any, written: Any) -> None:
    own = {"time": "never", "level": "debug", "logger": "wshub"}
    record = logging.makeLogRecord({"name": "a", "levelname": "ERROR", **own, "x": value})
    line = json.loads(JSONFormatter().format(record))
    assert (line["level"], line["logger"]) == ("error", "a")
    assert line["time"] != "never"
    assert line["x"] == written


@given(st.text(st.characters()))
def test_no_text_forges_a_line_or_a_color_of_the_text_log(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.getLogger("a").makeRecord("a", 40, "f.py", 1, "x %s", (text,), info)
    first, *others = TextFormatter("wshub: %(message)s").format(record).split("\n")
    assert first.startswith("wshub: x ")
    assert all(line.startswith("  ") for line in others)
    assert all(line.isprintable() for line in (first, *others))


def test_an_exception_is_a_field_of_its_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.getLogger("a").makeRecord("a", logging.ERROR, "f.py", 1, "it", (), info)
    line = JSONFormatter().format(record)
    assert "ValueError: broken" in json.loads(line)["exception"]
    assert "\n" not in line
