"""The command line, run in child processes."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from support import WSHUB, WireClient, eventually, wshub
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

import wshub_core


async def first_line(pipe: asyncio.StreamReader | None) -> str:
    assert pipe is not None
    async with asyncio.timeout(20):
        return (await pipe.readline()).decode().strip()


async def finish(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(20):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), (errors or b"").decode()


async def test_run_streams_a_command_and_ends_with_its_exit_code(tmp_path: Path) -> None:
    # The command waits for a line of input, so that it prints nothing before the client listens.
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    code = f"open({str(fifo)!r}).read(); print('hello'); raise SystemExit(7)"
    async with wshub(
        "run", "--port", "0", "--id", "x", "--", sys.executable, "-c", code
    ) as process:
        address = await first_line(process.stderr)
        async with connect(f"{address.replace('http', 'ws')}ws", proxy=None) as socket:
            client = WireClient(socket)
            await client.send(type="subscribe", channel="process:x")
            await client.send(type="ping")
            while (await client.receive())["type"] != "pong":
                pass
            fifo.write_text("go")
            while (frame := await client.receive())["type"] != "process_output":
                pass
            assert frame["data"] == "hello"
            assert (await client.receive())["data"] == {"exitCode": 7, "status": "exited"}
        assert await finish(process) == (7, "hello\n", "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["one", "two", "three"]),
        (("--history-messages", "2"), ["two", "three"]),
        (("--history-messages", "0"), []),
    ],
)
async def test_serve_keeps_the_history_of_processes(
    options: tuple[str, ...], expected: list[str]
) -> None:
    async with wshub("serve", "--port", "0", "--allow-publish", *options) as process:
        await first_line(process.stdout)
        async with connect(await first_line(process.stdout), proxy=None) as socket:
            client = WireClient(socket)
            for line in ("one", "two", "three"):
                await client.send(type="process_output", channel="process:x", data=line)
            await client.send(type="subscribe", channel="process:x", id=1, history={"since": 0})
            while (await client.receive())["type"] != "subscribed":
                pass
            for line in expected:
                assert (await client.receive())["data"] == line
            await client.send(type="event", channel="process:x", data="live")
            assert (await client.receive())["data"] == "live"


@pytest.mark.parametrize("options", [(), ("--compression",)])
async def test_serve_compresses_only_with_the_option(options: tuple[str, ...]) -> None:
    async with wshub("serve", "--port", "0", *options) as process:
        await first_line(process.stdout)
        async with connect(await first_line(process.stdout), proxy=None) as socket:
            assert bool(socket.protocol.extensions) is bool(options)
            await WireClient(socket).sync()


async def test_help_prints_the_size_of_the_history() -> None:
    async with wshub("serve", "--help") as process:
        _, output, _ = await finish(process)
    assert "(100000)" in output
    assert "(33554432)" in output
    assert "(86400)" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serve_closes_its_clients_on_a_signal(number: signal.Signals) -> None:
    async with wshub("serve", "--port", "0") as process:
        address = await first_line(process.stdout)
        assert re.fullmatch(r"http://localhost:\d+/", address)
        clients_address = await first_line(process.stdout)
        assert clients_address == f"{address.replace('http', 'ws')}ws"
        async with connect(clients_address, proxy=None) as socket:
            process.send_signal(number)
            await socket.wait_closed()
            assert socket.close_code == 1001
        assert await finish(process) == (130, "", "")


async def test_sigterm_drains_and_a_second_one_ends_at_once() -> None:
    options = ("--drain-window", "600", "--log-level", "warning")
    async with wshub("serve", "--port", "0", *options) as process:
        await first_line(process.stdout)
        url = await first_line(process.stdout)
        port = int(url.rsplit(":", 1)[1].removesuffix("/ws"))
        assert await status_of(port, "/readyz", "localhost") == 200
        async with connect(url, proxy=None) as first, connect(url, proxy=None) as second:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait(
                {asyncio.create_task(each.wait_closed()) for each in (first, second)},
                return_when=asyncio.FIRST_COMPLETED,
            )
            assert await status_of(port, "/readyz", "localhost") == 503
            assert await status_of(port, "/healthz", "localhost") == 200
            with pytest.raises(InvalidStatus, match="503"):
                await connect(url, proxy=None)
            process.send_signal(signal.SIGTERM)
            await asyncio.gather(first.wait_closed(), second.wait_closed())
            assert {first.close_code, second.close_code} == {1012, 1001}
        assert await finish(process) == (130, "", "")


async def test_a_drain_without_clients_ends_at_once_with_status_0() -> None:
    async with wshub("serve", "--port", "0", "--drain-window", "600") as process:
        await first_line(process.stdout)
        async with connect(await first_line(process.stdout), proxy=None) as socket:
            process.send_signal(signal.SIGTERM)
            await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (1012, "retry-after: 0")
        assert await finish(process) == (0, "", "")


async def test_ctrl_c_does_not_drain() -> None:
    async with wshub("serve", "--port", "0", "--drain-window", "600") as process:
        await first_line(process.stdout)
        async with connect(await first_line(process.stdout), proxy=None) as socket:
            process.send_signal(signal.SIGINT)
            await socket.wait_closed()
            assert socket.close_code == 1001
        assert await finish(process) == (130, "", "")


async def test_sigterm_during_the_start_ends_the_command() -> None:
    # The signal comes while the command reads its settings, before the event loop runs.
    code = (
        "import os, signal\nfrom wshub_core.cli import commands\nread = commands.read_settings\n"
        "def read_slowly(arguments):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return read(arguments)\n"
        f"commands.read_settings = read_slowly\n{WSHUB}"
    )
    async with wshub("serve", "--port", "0", "--drain-window", "600", code=code) as process:
        assert await finish(process) == (130, "", "")


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", ""])
async def test_serve_prints_an_address_that_can_be_opened(host: str) -> None:
    async with wshub("serve", "--host", host, "--port", "0") as process:
        address = await first_line(process.stdout)
        name = "127.0.0.1" if host == "127.0.0.1" else "localhost"
        assert re.fullmatch(rf"http://{name}:\d+/", address)
        async with connect(await first_line(process.stdout), proxy=None) as socket:
            await WireClient(socket).sync()


async def test_run_ends_its_command_on_a_signal() -> None:
    code = "import time\nwhile True: print('tick', flush=True); time.sleep(0.01)"
    async with wshub("run", "--port", "0", "--", sys.executable, "-c", code) as process:
        address = await first_line(process.stderr)
        async with connect(f"{address.replace('http', 'ws')}ws", proxy=None) as socket:
            client = WireClient(socket)
            await client.send(type="subscribe", channel="process:run")
            while (await client.receive())["data"] != "tick":
                pass
            process.send_signal(signal.SIGTERM)
            while (frame := await client.receive())["type"] != "process_status":
                pass
            assert frame["data"] == {"exitCode": -signal.SIGTERM, "status": "exited"}
        assert (await finish(process))[0] == 130


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("run", "--port", "0"), "wshub: no command given: use `wshub run -- COMMAND`"),
        (("run", "--port", "0", "--id", "a:b", "--", "true"), "wshub: invalid process ID 'a:b'"),
        (("serve", "--port", "99999"), "wshub: port must be 0 to 65535, not 99999"),
        (
            ("serve", "--port", "0", "--history-messages", "-1"),
            "wshub: HistoryLimits.messages must be above 0, not -1",
        ),
        (
            ("serve", "--port", "0", "--history-seconds", "nan"),
            "wshub: HistoryLimits.seconds must be above 0, not nan",
        ),
    ],
)
async def test_a_wrong_argument_prints_one_line(arguments: tuple[str, ...], text: str) -> None:
    async with wshub(*arguments) as process:
        code, _, errors = await finish(process)
        assert code == 1
        assert errors.startswith(text)
        assert errors.count("\n") == 1


async def test_a_command_that_cannot_start_prints_one_line() -> None:
    async with wshub("run", "--port", "0", "no-such-command", "--option") as process:
        code, output, errors = await finish(process)
    assert (code, output) == (1, "")
    assert errors.splitlines()[1:] == [
        "wshub: cannot start 'no-such-command': 'no-such-command' not found"
    ]


async def test_a_closed_standard_output_does_not_end_the_command(tmp_path: Path) -> None:
    done = tmp_path / "done"
    shell = (
        f"{sys.executable} -c '{WSHUB}' run --port 0 -- sh -c "
        f"'seq 2000; touch {done}' 2>{tmp_path}/errors | head -1"
    )
    process = await asyncio.create_subprocess_shell(shell, stdout=asyncio.subprocess.PIPE)
    assert (await finish(process))[1] == "1\n"
    await eventually(done.exists)
    assert (tmp_path / "errors").read_text().count("\n") == 1


async def test_a_signal_is_reported_as_in_a_shell() -> None:
    async with wshub("run", "--port", "0", "sh", "-c", "echo before; kill -9 $$") as process:
        code, output, _ = await finish(process)
    assert (code, output) == (137, "before\n")


async def test_a_port_in_use_prints_one_line() -> None:
    async with wshub("serve", "--port", "0") as first:
        port = (await first_line(first.stdout)).rsplit(":", 1)[1].strip("/")
        async with wshub("serve", "--port", port) as second:
            code, _, errors = await finish(second)
            assert code == 1
            assert f"port {port} on localhost is already in use" in errors
            assert errors.count("\n") == 1


async def test_a_local_page_is_not_served_under_a_foreign_host_name() -> None:
    async with wshub("serve", "--port", "0") as process:
        address = await first_line(process.stdout)
        port = int(address.rsplit(":", 1)[1].strip("/"))
        for path in ("/", "/channels"):
            assert await status_of(port, path, f"localhost:{port}") == 200
            assert await status_of(port, path, f"evil.example:{port}") == 403
        with pytest.raises(InvalidStatus, match="403"):
            await connect(
                f"ws://evil.example:{port}/ws",
                host="localhost",
                origin=Origin(f"http://evil.example:{port}"),
                proxy=None,
            )


async def test_a_proxy_on_this_machine_may_pass_on_the_host_of_an_allowed_origin() -> None:
    origin = "https://app.example"
    origins = f"{origin},https://[2001:db8::1]"
    async with wshub("serve", "--port", "0", "--allowed-origins", origins) as process:
        address = await first_line(process.stdout)
        port = int(address.rsplit(":", 1)[1].strip("/"))
        for host in ("app.example", "App.Example:443", "[2001:db8::1]", "[2001:DB8::1]:443"):
            assert await status_of(port, "/channels", host) == 200, host
        for host in ("evil.example", "", "[", "app.example.evil.example", "[2001:db8::2]"):
            assert await status_of(port, "/channels", host) == 403, host
        url = f"ws://app.example:{port}/ws"
        async with connect(url, host="localhost", origin=Origin(origin), proxy=None) as socket:
            await WireClient(socket).sync()
        with pytest.raises(InvalidStatus, match="403"):
            await connect(url, host="localhost", origin=Origin("https://b.example"), proxy=None)


async def test_the_host_of_an_allowed_origin_may_be_written_in_several_ways() -> None:
    origins = "https://App.example,http://[fd00::1]:8443"
    async with wshub("serve", "--port", "0", "--allowed-origins", origins) as process:
        address = await first_line(process.stdout)
        port = int(address.rsplit(":", 1)[1].strip("/"))
        for host, status in [
            *(("APP.example", 200), ("app.example:443", 200), ("[fd00::1]", 200)),
            *(("[FD00::1]:8443", 200), ("[fd00::2]", 403), ("[fd00", 403), ("fd00", 403)),
        ]:
            assert await status_of(port, "/channels", host) == status, host


async def test_a_health_check_of_http_1_0_needs_no_host() -> None:
    async with wshub("serve", "--port", "0") as process:
        address = await first_line(process.stdout)
        port = int(address.rsplit(":", 1)[1].strip("/"))
        assert await status_of(port, "/healthz", None) == 200
        assert await status_of(port, "/healthz", "evil.example") == 403


async def status_of(port: int, path: str, host: str | None) -> int:
    reader, writer = await asyncio.open_connection("localhost", port)
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() if host is not None else f"GET {path} HTTP/1.0\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1])


async def test_version_is_printed() -> None:
    async with wshub("--version") as process:
        assert await finish(process) == (0, f"{wshub_core.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("listen", "ws://localhost/ws"),
        ("send", "ws://x", "a", "b"),
        ("run", "--to", "x", "--", "ls"),
    ],
)
async def test_commands_without_the_client_package_name_the_package(
    arguments: tuple[str, ...],
) -> None:
    hide = "import sys; sys.modules['wshub_client'] = None; " + WSHUB
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", hide, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert await finish(process) == (
        1,
        "",
        "wshub: this command needs the package wshub-client: install it beside wshub-core\n",
    )
