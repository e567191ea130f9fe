"""``wshub listen``, ``wshub send`` and ``wshub run --to``, as processes of their own."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE_SECONDS, eventually

from wshub_core import (
    AuthResult,
    Connection,
    HistoryLimits,
    Hub,
    HubConfig,
    LivePage,
    Message,
    Request,
    Response,
)

WSHUB = "import sys; from wshub_core.cli.commands import main; sys.exit(main())"


@asynccontextmanager
async def wshub(*arguments: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WSHUB, *arguments), **pipes | options
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        # A child of the process may keep the pipes open.
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.communicate()


async def finish(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, errors = await process.communicate()
    return process.returncode, (output or b"").decode(), (errors or b"").decode()


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[Hub, str]]:
    async with Hub(HubConfig(**settings)) as hub, hub.serve("127.0.0.1", 0) as server:
        yield hub, f"ws://127.0.0.1:{server.port}/ws"


def allow(*_: object) -> bool:
    return True


async def test_listen_prints_json_lines_in_a_pipe() -> None:
    async with serving() as (hub, url), wshub("listen", url, "news", "chat") as process:
        await eventually(lambda: hub.channels == ("chat", "news"))
        hub.publish("news", Message(type="event", data={"text": "grüße\n"}))
        hub.send_event("to all")
        assert process.stdout is not None
        lines = [json.loads(await process.stdout.readline()) for _ in range(2)]
        assert lines[0]["channel"] == "news"
        assert lines[0]["data"] == {"text": "grüße\n"}
        assert lines[1]["data"]["event"] == "to all"
        process.send_signal(signal.SIGINT)
        assert (await finish(process))[0] == 130


async def test_listen_prints_for_people_in_a_terminal() -> None:
    controller, terminal = pty.openpty()
    try:
        async with serving() as (hub, url), wshub("listen", url, "process:a", stdout=terminal):
            await eventually(lambda: hub.channels == ("process:a",))
            hub.send_process_status("a", "running")
            hub.send_process_output("a", "compiling")
            hub.send_process_status("a", "exited", 3)
            hub.send_event("done", [1])
            shown = b""
            while b"event" not in shown:
                shown += await asyncio.to_thread(os.read, controller, 4_096)
    finally:
        os.close(controller)
        os.close(terminal)
    text = shown.decode()
    for part in ("process:a", "running", "compiling", "exited with 3"):
        assert part in text
    assert "{" not in text.split("event")[0]


@pytest.mark.parametrize(
    ("code", "status"), [(0, 0), (7, 7), (-15, 143), (256, 1), (3_221_225_477, 5)]
)
async def test_listen_can_end_as_the_process_does(code: int, status: int) -> None:
    async with (
        serving() as (hub, url),
        wshub("listen", url, "process:a", "--exit-with-process") as process,
    ):
        await eventually(lambda: hub.channels == ("process:a",))
        hub.send_process_output("a", "line")
        hub.send_process_status("a", "exited", code)
        exit_status, output, errors = await finish(process)
        assert (exit_status, errors) == (status, "")
        assert len(output.splitlines()) == 2


async def test_listen_survives_a_restart_and_prints_the_error() -> None:
    async with serving() as (hub, url), wshub("listen", url, "news") as process:
        await eventually(lambda: hub.channels == ("news",))
        await hub.connections[0].close(1012)
        assert process.stderr is not None
        assert b"connection lost: 1012" in await process.stderr.readline()
        assert await process.stderr.readline() == b"wshub: connected again\n"
        hub.publish("news", Message(type="event", data=1))
        assert process.stdout is not None
        assert json.loads(await process.stdout.readline())["data"] == 1


async def test_listen_begins_with_the_history_and_reports_gaps() -> None:
    async with serving(history={"news": HistoryLimits(messages=3)}) as (hub, url):
        for number in range(1, 6):
            hub.publish("news", Message(type="event", data=number))
        for arguments, first, gap in (
            (("--last", "2"), 4, ""),
            (("--since", "4"), 5, ""),
            (("--from-start",), 3, "news: missing messages: 2 (the hub has removed them)"),
        ):
            async with wshub("listen", url, "news", *arguments) as process:
                assert process.stdout is not None
                lines = [json.loads(await process.stdout.readline()) for _ in range(first, 6)]
                assert [each["offset"] for each in lines] == [*range(first, 6)]
                process.send_signal(signal.SIGINT)
                status, output, errors = await finish(process)
                assert (status, output, errors) == (130, "", gap and f"wshub: {gap}\n")


async def test_listen_ends_quietly_when_its_pipe_is_closed() -> None:
    async with serving() as (hub, url), wshub("listen", url, "news") as process:
        await eventually(lambda: hub.channels == ("news",))
        assert process.stdout is not None
        process.stdout._transport.close()  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            while process.returncode is None:
                hub.publish("news", Message(type="event", data=1))
                await asyncio.sleep(0.01)
        assert process.returncode == 0
        assert process.stderr is not None
        assert await process.stderr.read() == b""


async def test_send_publishes_json_or_text() -> None:
    heard: list[Any] = []
    async with serving(publish_authorizer=allow) as (hub, url):
        hub.add_publish_listener(lambda channel, message: heard.append((channel, message.data)))
        for data in ('{"n": 1}', "plain text", "7"):
            async with wshub("send", url, "chat", data) as process:
                assert await finish(process) == (0, "", "")
    assert heard == [("chat", {"n": 1}), ("chat", "plain text"), ("chat", 7)]


@pytest.mark.parametrize(
    ("settings", "arguments", "status", "text"),
    [
        ({}, ("send", "chat", "x"), 5, "`wshub serve --allow-publish`"),
        ({"publish_authorizer": lambda *_: False}, ("send", "chat", "x"), 5, "publish denied"),
        ({"publish_authorizer": allow}, ("send", "a b", "x"), 1, "invalid channel name"),
        ({"channel_authorizer": lambda *_: False}, ("listen", "a"), 5, "unauthorised"),
        ({"authenticator": lambda _: AuthResult(False)}, ("listen", "a"), 3, "401 Unauthorised"),
        ({"check_origin": lambda _: False}, ("send", "a", "x"), 3, "403 Forbidden"),
        ({"check_origin": lambda _: False}, ("run",), 3, "403 Forbidden"),
        ({}, ("run",), 5, "`wshub serve --allow-publish`"),
    ],
)
async def test_refusals_have_an_exit_status(
    settings: dict[str, Any], arguments: tuple[str, ...], status: int, text: str
) -> None:
    async with serving(**settings) as (_, url):
        command, *rest = arguments
        if command == "run":
            arguments = ("run", "--to", url, "--", "sleep", "30")
        else:
            arguments = (command, url, *rest)
        async with wshub(*arguments) as process:
            exit_status, output, errors = await finish(process)
    assert (exit_status, output) == (status, "")
    assert text in errors
    assert "Traceback" not in errors


async def test_an_unreachable_hub_has_an_exit_status() -> None:
    async with serving() as (_, url):
        pass
    for arguments in (("send", url, "a", "x"), ("listen", url, "a", "--max-attempts", "1")):
        async with wshub(*arguments) as process:
            exit_status, _, errors = await finish(process)
        assert exit_status == 4
        assert "cannot connect" in errors
    async with wshub("listen", "http://localhost/") as process:
        exit_status, _, errors = await finish(process)
    assert exit_status == 1
    assert "is not the address of a hub" in errors


async def test_the_token_comes_from_the_environment() -> None:
    def authenticate(request: Request) -> AuthResult:
        return AuthResult(request.header("authorization") == "Bearer s3cret", "alice")

    async with serving(authenticator=authenticate, publish_authorizer=allow) as (_, url):
        environment = os.environ | {"WSHUB_TOKEN": "s3cret"}
        async with wshub("send", url, "chat", "x", env=environment) as process:
            assert await finish(process) == (0, "", "")


async def test_run_streams_to_a_hub_elsewhere() -> None:
    heard: list[Message] = []
    code = "for n in range(5000): print('line', n)\nraise SystemExit(7)"
    async with serving(publish_authorizer=allow) as (hub, url):
        hub.add_publish_listener(lambda _, message: heard.append(message))
        command = ("run", "--to", url, "--id", "x", "--", sys.executable, "-c", code)
        async with wshub(*command) as process:
            assert await finish(process) == (7, "", "")
    assert [message.channel for message in heard] == ["process:x"] * 5_002
    assert heard[0].data == {"exitCode": 0, "status": "running"}
    assert [message.data for message in heard[1:-1]] == [f"line {n}" for n in range(5_000)]
    assert heard[-1].data == {"exitCode": 7, "status": "exited"}


async def test_run_goes_on_when_the_hub_is_back() -> None:
    heard: list[Message] = []
    code = "import time\nfor n in range(100): print('line', n, flush=True); time.sleep(0.01)"
    async with serving(publish_authorizer=allow) as (hub, url):
        hub.add_publish_listener(lambda _, message: heard.append(message))
        command = ("run", "--to", url, "--id", "x", "--", sys.executable, "-c", code)
        async with wshub(*command) as process:
            await eventually(lambda: len(heard) > 20)
            await hub.connections[0].close(1012)
            exit_status, _, errors = await finish(process)
    assert exit_status == 0
    assert "connection lost: 1012" in errors
    lines = [message.data for message in heard if message.type == "process_output"]
    # In order, and all but what was on its way when the connection was lost.
    assert lines == sorted(lines, key=lambda line: int(line.split()[1]))
    assert lines[-1] == "line 99"
    assert len(set(lines)) == len(lines) > 90


async def test_run_is_ended_with_its_command() -> None:
    async with serving(publish_authorizer=allow) as (hub, url):
        heard: list[Message] = []
        hub.add_publish_listener(lambda _, message: heard.append(message))
        async with wshub("run", "--to", url, "--", "sleep", "60") as process:
            await eventually(lambda: len(heard) == 1)
            process.send_signal(signal.SIGTERM)
            assert (await finish(process))[0] == 130
        assert heard[-1].data == {"exitCode": -15, "status": "exited"}


async def test_serve_with_allow_publish_lets_clients_publish() -> None:
    async with wshub("serve", "--port", "0", "--allow-publish") as server:
        assert server.stdout is not None
        address = (await server.stdout.readline()).decode().strip().replace("http", "ws") + "ws"
        async with wshub("listen", address, "chat") as listener:
            async with asyncio.timeout(20):
                while True:
                    async with wshub("send", address, "chat", "hello") as sender:
                        assert (await finish(sender))[0] == 0
                    assert listener.stdout is not None
                    try:
                        async with asyncio.timeout(0.5):
                            line = await listener.stdout.readline()
                    except TimeoutError:
                        continue  # it was not there yet
                    break
        assert json.loads(line)["data"] == "hello"


async def test_listen_reads_many_messages_while_it_subscribes_to_further_channels() -> None:
    async def replay(connection: Connection, channel: str) -> bool:
        for number in range(3_000):
            connection.send(Message(type="event", data=number))
        return True

    async with (
        serving(channel_authorizer=replay) as (_, url),
        wshub("listen", url, "a", "b") as process,
    ):
        assert process.stdout is not None
        async with asyncio.timeout(20):
            lines = [json.loads(await process.stdout.readline())["data"] for _ in range(6_000)]
        assert lines == [*range(3_000)] * 2


async def test_listen_ends_on_a_signal_although_its_pipe_is_full() -> None:
    reading, writing = os.pipe()
    try:
        async with (
            serving(max_outbox_bytes=50_000_000) as (hub, url),
            wshub("listen", url, "a", stdout=writing) as process,
        ):
            await eventually(lambda: hub.channels == ("a",))
            for number in range(5_000):
                hub.publish("a", Message(type="event", data=[number, "x" * 100]))
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await process.wait() == 130
    finally:
        os.close(reading)
        os.close(writing)


async def test_listen_replaces_characters_that_the_encoding_lacks() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    async with serving() as (hub, url), wshub("listen", url, "a", env=environment) as process:
        await eventually(lambda: hub.channels == ("a",))
        hub.publish("a", Message(type="event", data="grüße"))
        assert process.stdout is not None
        assert b"gr??e" in await process.stdout.readline()


async def test_invalid_arguments_have_the_exit_status_2() -> None:
    async with wshub("listen", "ws://localhost/ws", "a", "--last", "1", "--since", "2") as process:
        status, _, errors = await finish(process)
        assert (status, "not allowed with argument" in errors) == (2, True)
    async with wshub("listen", "ws://localhost/ws", "--max-attempts", "-3") as process:
        exit_status, _, errors = await finish(process)
    assert exit_status == 2
    assert "--max-attempts" in errors
    async with (
        serving(publish_authorizer=allow) as (_, url),
        wshub("send", url, "a", "[" * 50_000) as process,
    ):
        assert (await finish(process))[::2] == (0, "")


async def test_listen_prints_one_error_when_it_ends_while_it_subscribes() -> None:
    async def ban(connection: Connection, channel: str) -> bool:
        await connection.close(4500, "banned")
        return True

    async with (
        serving(channel_authorizer=ban) as (_, url),
        wshub("listen", url, "a") as process,
    ):
        assert await finish(process) == (3, "", "wshub: closed for good: 4500 banned\n")


# Servers that have no hub at the path, and processes that have ended.


@asynccontextmanager
async def serving_page() -> AsyncIterator[tuple[Hub, str]]:
    """Serve as ``wshub serve`` does, with a page at ``/``."""
    async with Hub() as hub:
        page = LivePage(hub)
        async with hub.serve("127.0.0.1", 0, process_request=page.process_request) as server:
            yield hub, f"ws://127.0.0.1:{server.port}/ws"


@asynccontextmanager
async def answering(*answers: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Answer requests with a status line each, the last one again and again."""
    requests: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0])
        status = answers[min(len(requests), len(answers)) - 1]
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", requests


@pytest.mark.parametrize("command", ["listen", "send", "run"])
async def test_a_path_without_a_hub_is_an_error_with_a_hint(command: str) -> None:
    async with serving_page() as (_, url):
        for path in ("/", "/nothing"):
            address = url.removesuffix("/ws") + path
            arguments = {
                "listen": ("listen", address, "a"),
                "send": ("send", address, "a", "x"),
                "run": ("run", "--to", address, "--", "sleep", "30"),
            }[command]
            async with wshub(*arguments) as process:
                exit_status, _, errors = await finish(process)
            assert exit_status == 4
            assert "is the path right? `wshub serve` has its hub at /ws" in errors
            assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "426 Upgrade Required"])
async def test_a_server_without_a_hub_is_dialed_once(status: str) -> None:
    async with answering(status) as (url, requests), wshub("listen", url, "a") as process:
        exit_status, _, errors = await finish(process)
        assert (exit_status, len(requests)) == (4, 1)
        assert f"answered {status}; is the path right?" in errors


async def test_a_server_that_is_unavailable_for_now_is_dialed_again() -> None:
    async with (
        answering("503 Away", "503 Away", "404 Not Found") as (url, requests),
        wshub("listen", url, "a") as process,
    ):
        assert (await finish(process))[0] == 4
        assert len(requests) == 3


async def test_listen_waits_for_a_hub_that_restarts() -> None:
    requests = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    # While a proxy's hub restarts, it may answer 404.
    async with AsyncExitStack() as stack:
        hub, url = await stack.enter_async_context(serving())
        async with wshub("listen", url, "a") as process:
            await eventually(lambda: hub.channels == ("a",))
            await stack.aclose()
            port = int(url.split(":")[2].removesuffix("/ws"))
            async with await asyncio.start_server(answer, "127.0.0.1", port):
                await eventually(lambda: requests == 1)
            assert process.returncode is None


@pytest.mark.parametrize(("code", "status"), [(0, 0), (7, 7), (-15, 143)])
async def test_listen_ends_with_a_process_that_had_ended_before(code: int, status: int) -> None:
    async with serving_page() as (hub, url):
        hub.send_process_status("a", "exited", code)
        async with wshub("listen", url, "process:a", "--exit-with-process") as process:
            exit_status, output, errors = await finish(process)
    assert (exit_status, output) == (status, "")
    assert errors == f"wshub: process:a has ended already, with exit code {code}\n"


async def test_listen_waits_for_a_process_that_runs_again_or_is_unknown() -> None:
    async with serving_page() as (hub, url):
        hub.send_process_status("a", "exited", 3)
        hub.send_process_status("a", "running")
        hub.send_process_status("other", "exited", 4)
        async with wshub(
            "listen", url, "process:a", "process:b", "news", "--exit-with-process"
        ) as process:
            await eventually(lambda: len(hub.channels) == 3)
            await asyncio.sleep(0.3)
            assert process.returncode is None
            hub.send_process_status("b", "exited", 5)
            exit_status, output, errors = await finish(process)
    assert (exit_status, errors) == (5, "")
    assert len(output.splitlines()) == 1


async def test_a_status_message_is_newer_than_the_list() -> None:
    asked = asyncio.Event()
    may_answer = asyncio.Event()

    async def process_request(request: Request) -> Response | None:
        if request.path != "/channels":
            return None
        asked.set()
        await may_answer.wait()
        listed = {"channels": [{"channel": "process:a", "status": "exited", "exitCode": 3}]}
        return Response(HTTPStatus.OK, json.dumps(listed).encode())

    async with (
        Hub() as hub,
        hub.serve("127.0.0.1", 0, process_request=process_request) as server,
        wshub(
            "listen", f"ws://127.0.0.1:{server.port}/ws", "process:a", "--exit-with-process"
        ) as process,
    ):
        await asked.wait()
        hub.send_process_status("a", "running")
        assert process.stdout is not None
        assert b"running" in await process.stdout.readline()
        may_answer.set()
        await asyncio.sleep(0.2)
        hub.send_process_status("a", "exited", 7)
        assert (await finish(process))[::2] == (7, "")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"channels":5}', b"\xff", b'{"channels":[{"channel":"process:a"}]}']
)
async def test_a_list_that_is_not_valid_does_not_end_listen(body: bytes) -> None:
    def process_request(request: Request) -> Response | None:
        return Response(HTTPStatus.OK, body) if request.path == "/channels" else None

    async with (
        Hub() as hub,
        hub.serve("127.0.0.1", 0, process_request=process_request) as server,
        wshub(
            "listen", f"ws://127.0.0.1:{server.port}/ws", "process:a", "--exit-with-process"
        ) as process,
    ):
        await eventually(lambda: hub.channels == ("process:a",))
        await asyncio.sleep(0.2)
        hub.send_process_status("a", "exited", 7)
        assert (await finish(process))[::2] == (7, "")


PAGE = Path(__file__).parents[3] / "docs" / "reference" / "command-line.md"


# The options of ``serve`` are its settings, which have a page and a test of their own.
@pytest.mark.parametrize("command", ["run", "listen", "send"])
async def test_the_documentation_has_every_option_of_a_command_and_no_other(command: str) -> None:
    async with wshub(command, "--help") as process:
        _, output, _ = await finish(process)
    [section] = [
        each for each in PAGE.read_text().split("\n## ") if each.startswith(f"`wshub {command}")
    ]
    documented = set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE))
    assert documented == set(re.findall(r"^  (--[a-z-]+)", output, re.MULTILINE))
