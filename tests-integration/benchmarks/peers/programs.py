"""Child processes that answer lines with lines of JSON, and their cost, as Linux counts it."""

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

MAX_OPEN_FILES = 20_000


class ProgramError(Exception):
    """A child process has ended, or does not answer."""


class Program:
    """A child process on given cores. Its session is its own, so that it ends as a whole."""

    def __init__(
        self, command: Sequence[str | Path], cores: Collection[int], cwd: Path | None = None
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._unread = b""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=cwd,
            start_new_session=True,
            # Before the program starts: threads inherit the cores, and Go counts them.
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    def ask(self, line: str, timeout: float = 30) -> Any:
        """Send a line, and return the answer."""
        self.send(line)
        return self.read(timeout)

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ProgramError(self._last_words()) from None

    def read(self, timeout: float = 30) -> Any:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            left = max(0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                raise ProgramError(f"no answer in {timeout} s")
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            if not data:
                raise ProgramError(self._last_words())
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the process ended with status {self._process.poll()}"

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process and its children, user and system.

        The CPU clock of a process counts nanoseconds; `/proc/PID/stat` counts hundredths of a
        second. The number of the clock is what `clock_getcpuclockid` returns on Linux.
        """
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self._tree())

    def resident_bytes(self) -> int:
        """Return the resident memory of the process and its children."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._tree())
        return pages * resource.getpagesize()

    def _tree(self) -> list[int]:
        found = [self._process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        return found

    def end(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.close()


def limit_open_files() -> None:
    """Set the limit of open files, for this process and for its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def cores() -> tuple[set[int], set[int]]:
    """Return the core of the server, and the cores of the subscribers."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}
