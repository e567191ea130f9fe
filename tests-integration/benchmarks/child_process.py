"""A child process of a benchmark, which answers each line with one line."""

import os
import subprocess
import sys


class ChildProcess:
    """A script that runs in a process of its own.

    Args:
        script: The path of the script.
        *arguments: The arguments of the script.
        core: The core on which the process runs; None for any.
    """

    def __init__(self, script: str, *arguments: str, core: int | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})

    def read(self) -> str:
        """Return the next line of the process."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        """Send a line, and return the answer."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        return self.read()

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.communicate()
