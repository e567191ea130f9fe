"""The process runner, with real processes."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Served, eventually

from wshub_core import (
    HubClosedError,
    InvalidProcessIDError,
    MessageTooLargeError,
    ProcessStartError,
    run_process,
)
from wshub_core.process.lines import Cursor, Lines

ShutdownHook = Callable[[], Awaitable[None]]


class RecordingHub:
    """A hub that records the output and the statuses, and refuses long lines."""

    def __init__(self, longest_line: int = 10**9) -> None:
        self.lines: list[str] = []
        self.overwriting: list[str] = []
        self.statuses: list[tuple[str, int]] = []
        self.longest_line = longest_line
        self.changed = asyncio.Event()
        self.hooks: list[ShutdownHook] = []

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def send_process_output(self, process_id: str, line: str, *, overwrites: bool = False) -> None:
        if len(line) > self.longest_line:
            raise MessageTooLargeError(len(line), self.longest_line)
        self.lines.append(line)
        if overwrites:
            self.overwriting.append(line)
        self.changed.set()

    def add_shutdown_hook(self, hook: ShutdownHook) -> None:
        self.hooks.append(hook)

    def remove_shutdown_hook(self, hook: ShutdownHook) -> None:
        self.hooks.remove(hook)

    def send_process_status(self, process_id: str, status: str, exit_code: int = 0) -> None:
        self.statuses.append((status, exit_code))


async def run_python(hub: Any, code: str, **options: Any) -> int:
    return await run_process(hub, "p", sys.executable, "-u", "-c", code, **options)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


async def test_lines_of_both_pipes_are_published_between_running_and_exited() -> None:
    hub = RecordingHub()
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert await run_python(hub, code) == 3
    assert sorted(hub.lines) == ["err", "out"]
    assert hub.statuses == [("running", 0), ("exited", 3)]


async def test_a_line_is_published_as_soon_as_it_is_complete() -> None:
    hub = RecordingHub()
    code = "print('first'); input_never_comes = __import__('time').sleep(60)"
    task = asyncio.create_task(run_python(hub, code))
    async with asyncio.timeout(10):
        await hub.changed.wait()
    assert hub.lines == ["first"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"partial", ["partial"]),
        (b"a\npartial", ["a", "partial"]),
        (b"windows\r\nlines\r\n", ["windows", "lines"]),
        (b"10%\r50%\r100%\n", ["10%", "50%", "100%"]),
        (b"carriage at the end\r", ["carriage at the end"]),
        (b"bad \xff byte\n", ["bad \ufffd byte"]),
        (b"cut \xc3", ["cut \ufffd"]),
        ("grüße 🎉\u2028still the same line\n".encode(), ["grüße 🎉\u2028still the same line"]),
        (b"\x1b[31mred\x1b[0m\n", ["\x1b[31mred\x1b[0m"]),
        (b"nul \0 byte\n", ["nul \0 byte"]),
    ],
)
async def test_output_is_split_into_lines(output: bytes, lines: list[str]) -> None:
    hub = RecordingHub()
    await run_python(hub, f"__import__('sys').stdout.buffer.write({output!r})")
    assert hub.lines == lines


async def test_characters_and_line_ends_may_be_split_between_reads() -> None:
    hub = RecordingHub()
    code = (
        "import os, time\n"
        "for part in (b'gr\\xc3', b'\\xbc\\xc3\\x9fe\\r', b'\\nnext\\n'):\n"
        "    os.write(1, part); time.sleep(0.05)\n"
    )
    await run_python(hub, code)
    assert hub.lines == ["grüße", "next"]


@pytest.mark.parametrize(
    ("parts", "lines", "overwriting"),
    [
        ([b"10%\r50%\r100%\n", b"done\n"], ["10%", "50%", "100%", "done"], ["50%", "100%"]),
        ([b"10%\r", b"50%\r", b"\n"], ["10%", "50%"], ["50%"]),
        ([b"windows\r", b"\nlines\r\n"], ["windows", "lines"], []),
        ([b"10%\r", b"last"], ["10%", "last"], ["last"]),
        ([b"\r", b"\r\n", b"a\n"], ["", "", "a"], [""]),
    ],
)
async def test_a_line_after_a_bare_carriage_return_overwrites(
    parts: list[bytes], lines: list[str], overwriting: list[str]
) -> None:
    hub = RecordingHub()
    code = f"import os, time\nfor part in {parts!r}:\n    os.write(1, part); time.sleep(0.05)\n"
    await run_python(hub, code)
    assert hub.lines == lines
    assert hub.overwriting == overwriting


async def test_a_line_with_a_carriage_return_is_published_at_once(tmp_path: Path) -> None:
    hub = RecordingHub()
    seen = tmp_path / "seen"
    # The process goes on when the test has received its first line.
    code = (
        "import os, pathlib, time\n"
        "os.write(1, b'10%\\r')\n"
        f"while not pathlib.Path({str(seen)!r}).exists(): time.sleep(0.01)\n"
        "os.write(1, b'100%\\n')\n"
    )
    task = asyncio.create_task(run_python(hub, code))
    async with asyncio.timeout(20):
        while not hub.lines:
            await hub.changed.wait()
            hub.changed.clear()
    assert hub.lines == ["10%"]
    seen.touch()
    assert await task == 0
    assert hub.lines == ["10%", "100%"]


async def test_an_unfinished_line_is_published_after_a_pause(tmp_path: Path) -> None:
    hub = RecordingHub()
    seen = tmp_path / "seen"
    code = (
        "import os, pathlib, time\n"
        "os.write(1, b'checking... ')\n"
        f"while not pathlib.Path({str(seen)!r}).exists(): time.sleep(0.01)\n"
        "os.write(1, b'yes\\nnext\\n')\n"
    )
    task = asyncio.create_task(run_python(hub, code))
    async with asyncio.timeout(20):
        while not hub.lines:
            await hub.changed.wait()
            hub.changed.clear()
    assert hub.lines == ["checking... "]
    seen.touch()
    assert await task == 0
    assert hub.lines == ["checking... ", "checking... yes", "next"]
    assert hub.overwriting == ["checking... yes"]


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        # A line of the other pipe is not overwritten.
        ([(1, "a"), None, (2, "b\n"), (1, "c\n")], ["a", "b", "ac"]),
        # A line that was shown completely is not shown again.
        ([(1, "a"), None, (1, "\n"), (1, "b\n")], ["a", "b"]),
        ([(1, "a"), None, None, (1, "b"), None, (1, "\n")], ["a", "<ab"]),
        ([(1, "a"), None, (1, "\r"), (1, "b\n")], ["a", "<b"]),
        # Both pipes share one cursor, like on a terminal.
        ([(2, "10%\r"), (1, "log\n"), (2, "50%\r"), (2, "\n")], ["10%", "<log", "50%"]),
        ([(1, "a\r"), (2, "b\r"), (1, "\nc\n")], ["a", "<b", "c"]),
    ],
)
def test_lines_of_two_pipes_share_a_cursor(
    writes: list[tuple[int, str] | None], expected: list[str]
) -> None:
    cursor = Cursor()
    pipes = {1: Lines(cursor), 2: Lines(cursor)}
    lines: list[str] = []
    for write in writes:
        new = (
            [line for pipe in pipes.values() for line in pipe.flush()]
            if write is None
            else pipes[write[0]].feed(write[1].encode())
        )
        lines += [f"<{line.text}" if line.overwrites else line.text for line in new]
    lines += [line.text for pipe in pipes.values() for line in pipe.end()]
    assert lines == expected


@given(st.lists(st.sampled_from(["a", "\r", "\n", "\r\n", "ü", "bc"]), max_size=12), st.data())
def test_lines_do_not_depend_on_the_sizes_of_reads(parts: list[str], data: Any) -> None:
    output = "".join(parts).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(output)))))
    whole, pieces = Lines(Cursor()), Lines(Cursor())
    expected = [*whole.feed(output), *whole.end()]
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(output)], strict=True):
        found += pieces.feed(output[start:end])
    assert [*found, *pieces.end()] == expected


async def test_a_line_that_is_too_long_is_published_in_pieces() -> None:
    hub = RecordingHub(longest_line=100)
    await run_python(hub, "print('0123456789' * 100)")
    assert "".join(hub.lines) == "0123456789" * 100
    assert max(map(len, hub.lines)) <= 100


async def test_a_very_long_line_is_published_before_its_end() -> None:
    hub = RecordingHub()
    await run_python(hub, "import sys; sys.stdout.write('x' * 300_000)")
    assert "".join(hub.lines) == "x" * 300_000
    assert max(map(len, hub.lines)) < 200_000


async def test_pieces_of_long_lines_fit_into_the_messages_of_a_real_hub(served: Served) -> None:
    client = await served.connect(max_size=None)
    await client.subscribe("process:p")
    # Each of these characters needs six bytes on the wire.
    await run_python(served.hub, r"print('\x01' * 100_000)")
    text = ""
    while (frame := await client.receive())["type"] != "process_status" or not text:
        if frame["type"] == "process_output":
            text += frame["data"]
    assert text == "\x01" * 100_000
    assert frame["data"] == {"exitCode": 0, "status": "exited"}


async def test_a_flood_of_lines_does_not_hold_the_loop() -> None:
    hub = RecordingHub()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count_turns())
    await run_python(hub, "print('\\n' * 200_000)")
    counter.cancel()
    assert len(hub.lines) == 200_001
    assert turns > 1_000


async def test_a_slow_hub_receives_the_last_lines_of_an_ended_process() -> None:
    class SlowHub(RecordingHub):
        async def drain(self) -> None:
            await asyncio.sleep(0.2)

    hub = SlowHub()
    # More than the runner reads ahead. Publishing it takes longer than the second after the exit.
    assert await run_python(hub, "for n in range(3_300): print(f'{n:099}')") == 0
    assert hub.lines == [f"{n:099}" for n in range(3_300)]


async def test_a_signal_is_a_negative_exit_code() -> None:
    hub = RecordingHub()
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert await run_python(hub, code) == -signal.SIGKILL
    assert hub.statuses[-1] == ("exited", -9)


async def test_cancelling_ends_the_process_and_its_children() -> None:
    hub = RecordingHub()
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(os.getpid(), child.pid)\n"
        "time.sleep(60)\n"
    )
    task = asyncio.create_task(run_python(hub, code))
    async with asyncio.timeout(10):
        await hub.changed.wait()
    pids = [int(pid) for pid in hub.lines[0].split()]
    assert all(map(is_alive, pids))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not any(map(is_alive, pids)))
    assert hub.statuses == [("running", 0), ("exited", -signal.SIGTERM)]


async def test_a_process_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wshub_core.process.runner._TERMINATE_SECONDS", 0.05)
    hub = RecordingHub()
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready'); time.sleep(60)\n"
    )
    task = asyncio.create_task(run_python(hub, code))
    async with asyncio.timeout(10):
        await hub.changed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hub.statuses == [("running", 0), ("exited", -signal.SIGKILL)]


async def test_a_background_child_does_not_delay_the_status() -> None:
    hub = RecordingHub()
    start = time.monotonic()
    await run_process(hub, "p", "sh", "-c", "sleep 30 & echo $!")
    assert time.monotonic() - start < 20
    assert hub.statuses[-1] == ("exited", 0)
    os.kill(int(hub.lines[0]), signal.SIGKILL)


async def test_a_background_child_that_prints_does_not_delay_the_status() -> None:
    hub = RecordingHub()
    start = time.monotonic()
    await run_process(hub, "p", "sh", "-c", "(while :; do echo x; sleep 0.01; done) & echo $!")
    assert time.monotonic() - start < 20
    assert hub.statuses[-1] == ("exited", 0)
    pid = next(line for line in hub.lines if line != "x")
    os.kill(int(pid), signal.SIGKILL)


async def test_a_failed_publish_ends_the_process() -> None:
    class FailingHub(RecordingHub):
        def send_process_output(
            self, process_id: str, line: str, *, overwrites: bool = False
        ) -> None:
            super().send_process_output(process_id, line)
            raise HubClosedError

    hub = FailingHub()
    code = "import os, time; print(os.getpid()); time.sleep(60)"
    with pytest.raises(HubClosedError, match="has been closed"):
        await run_python(hub, code)
    assert not is_alive(int(hub.lines[0]))
    assert hub.hooks == []


async def test_closing_the_hub_ends_the_process_and_publishes_its_status(served: Served) -> None:
    client = await served.connect()
    await client.subscribe("process:p")
    code = "import os, time; print(os.getpid()); time.sleep(60)"
    running = asyncio.create_task(run_python(served.hub, code))
    while (frame := await client.receive())["type"] != "process_output":
        pass
    await served.hub.close()
    assert not is_alive(int(frame["data"]))
    assert (await client.receive())["data"] == {"exitCode": -signal.SIGTERM, "status": "exited"}
    with pytest.raises(HubClosedError, match="has been closed"):
        await running


async def test_closing_the_hub_again_does_not_shorten_the_end_of_the_process(
    served: Served,
) -> None:
    client = await served.connect()
    await client.subscribe("process:p")
    code = (
        "import signal, sys, time\n"
        "def end(*_): time.sleep(0.5); print('cleaned up'); sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready'); time.sleep(60)\n"
    )
    running = asyncio.create_task(run_python(served.hub, code))
    while (await client.receive())["data"] != "ready":
        pass
    first = asyncio.create_task(served.hub.close())
    await asyncio.sleep(0.1)
    await asyncio.gather(first, served.hub.close())
    assert (await client.receive())["data"] == {"exitCode": 5, "status": "exited"}
    with pytest.raises(HubClosedError, match="has been closed"):
        await running


async def test_the_process_gets_its_directory_and_environment(tmp_path: Path) -> None:
    hub = RecordingHub()
    code = "import os; print(os.getcwd()); print(os.environ['NAME'])"
    await run_python(hub, code, cwd=tmp_path, env={"NAME": "value"})
    assert hub.lines == [str(tmp_path), "value"]


@pytest.mark.parametrize(
    ("command", "options", "text"),
    [
        (
            ("no-such-command", "x"),
            {},
            "cannot start 'no-such-command': 'no-such-command' not found",
        ),
        (("/dev/null",), {}, "cannot start '/dev/null': Permission denied"),
        (("true",), {"cwd": "/no/such/dir"}, "cannot start 'true': '/no/such/dir' not found"),
        (("true", "nul\0"), {}, "cannot start 'true': an argument holds a NUL"),
    ],
)
async def test_a_command_that_cannot_start_raises_an_error_with_the_reason(
    command: tuple[str, ...], options: dict[str, Any], text: str
) -> None:
    hub = RecordingHub()
    with pytest.raises(ProcessStartError, match=text):
        await run_process(hub, "p", *command, **options)
    assert hub.statuses == []


async def test_the_process_id_is_validated_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidProcessIDError, match="invalid process ID 'a:b'"):
        await run_process(RecordingHub(), "a:b", "touch", str(tmp_path / "started"))
    assert not (tmp_path / "started").exists()
