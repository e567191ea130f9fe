"""The child processes of `bench:peers`: their cost, their ends, and their installation."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import environments
import pytest
from columns import Extent
from environments import MissingPeerError, prepare
from programs import Program, ProgramError
from progress import Progress
from roster import PEERS, Peer
from session import measure
from summary import Results

BUSY = """
import json, subprocess, sys, time
def burn(seconds):
    while time.process_time() < seconds: pass
    print(json.dumps(time.process_time()), flush=True)
if len(sys.argv) > 1:
    burn(0.3)
    sys.stdin.read()
burn(0.2)
child = subprocess.Popen([sys.executable, "-c", sys.argv[0], "child"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
"""


@contextmanager
def program(code: str, *arguments: str) -> Iterator[Program]:
    command = [sys.executable, "-c", code, *arguments]
    started = Program(command, os.sched_getaffinity(0))
    try:
        yield started
    finally:
        started.end()


def test_the_cost_of_a_program_includes_its_children() -> None:
    code = BUSY.replace("sys.argv[0]", repr(BUSY))
    with program(code) as parent:
        own = parent.read()
        parent.read()
        of_child = parent.read()
        assert own + of_child <= parent.cpu_seconds()
        assert parent.resident_bytes() > 5_000_000


def test_the_end_of_a_program_ends_its_children(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        code = """
import subprocess, sys
subprocess.Popen(["sleep", "1000"], stdout=open(sys.argv[1], "w"))
print(1, flush=True)
input()
"""
        with program(code, str(fifo)) as parent:
            assert parent.read() == 1
        os.set_blocking(reader.fileno(), True)
        assert reader.read() == b""  # this is the end: nobody holds the other side


def test_the_last_line_of_a_failed_program_is_the_reason() -> None:
    with program("print(1, flush=True); raise SystemExit('no compression')") as failed:
        assert failed.read() == 1
        with pytest.raises(ProgramError, match=r"^no compression$"):
            failed.read()
        with pytest.raises(ProgramError, match=r"^no compression$"):
            failed.ask("more")


def test_a_program_that_does_not_answer_is_given_up() -> None:
    with (
        program("input(); input()") as silent,
        pytest.raises(ProgramError, match="no answer"),
    ):
        silent.ask("hello", timeout=0.01)


def test_a_missing_command_is_the_reason_to_leave_a_peer_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    for name, command in (("gorilla", "go"), ("ws", "node")):
        (peer,) = (peer for peer in PEERS if peer.name == name)
        with pytest.raises(MissingPeerError, match=f"there is no command {command}"):
            prepare(peer)


def test_a_failed_installation_is_the_reason_to_leave_a_peer_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environments, "CACHE", tmp_path)
    with pytest.raises(MissingPeerError, match=r"python.*: it is full"):
        environments.call(sys.executable, "-c", "raise SystemExit('it is full')")


def test_other_packages_have_another_environment() -> None:
    first, second = (environments.folder_of("python", each) for each in ("a==1", "a==2"))
    assert first != second
    assert first == environments.folder_of("python", "a==1")


def test_a_peer_is_measured_and_loses_nothing() -> None:
    (peer,) = (peer for peer in PEERS if peer.name == "floor")
    results = Results()
    extent = Extent(subscribers=24, channels=3, turns=2, scale=0.02, limit=1)
    wanted = ["steady", "channels", "turns", "deflate", "accept", "storm"]
    steps = list(measure(peer, prepare(peer), wanted, extent, results))
    assert steps == ["accept", "steady", "channels", "turns", "storm"]
    assert {*results.values} == {*wanted, "memory", "p50", "p99", "held"} - {"deflate"}
    assert results.lost == {"steady": 0, "channels": 0, "turns": 0}
    assert results.missing == {"deflate": "the library has no compression"}
    assert "Python" in results.versions


def test_a_server_that_fails_is_an_error() -> None:
    peer = Peer("broken", "floor_server.py", "", ["--no-such-option"])
    with pytest.raises(ProgramError, match="no-such-option"):
        list(measure(peer, prepare(peer), ["steady"], Extent(subscribers=2), Results()))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_and_lines_elsewhere() -> None:
    for stream, expected in (
        (Terminal(), "\r\x1b[Kround 1\r\x1b[Kround 1, accept\r\x1b[K"),
        (io.StringIO(), "round 1\n"),
    ):
        progress = Progress(stream)
        progress.show("round 1")
        progress.detail("accept")
        progress.end()
        assert stream.getvalue() == expected
