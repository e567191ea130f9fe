"""Hubs of the command line behind a proxy, with the configurations of the documentation."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis_servers import find_free_port
from support import WSHUB, eventually

FILES = Path(__file__).parents[1] / "docs/examples/deploy"

_NGINX_MAIN = """
daemon off;
user root;
pid nginx.pid;
error_log error.log;
worker_processes 1;
worker_rlimit_nofile 32768;
events { worker_connections 16384; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include hubs.conf;
}
"""


def find_program(name: str) -> str:
    """Return the path of a program; skip the test without it, or fail where it is required."""
    path = shutil.which(name)
    if path is None:
        if "WSHUB_REQUIRE_DEPLOYMENT" in os.environ:
            pytest.fail(f"no {name} on PATH, and WSHUB_REQUIRE_DEPLOYMENT is set")
        pytest.skip(f"no {name} on PATH")
    return path


class HubProcess:
    """A hub of the command line, which can be restarted at the same port."""

    def __init__(self, *options: str) -> None:
        self.port = find_free_port()
        self._options = ("--host", "127.0.0.1", "--port", str(self.port), *options)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the hub, and wait until it is ready."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WSHUB, "serve", *self._options),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(40):
            # The command prints its addresses when it listens.
            assert await self._process.stdout.readline()

    async def terminate(self) -> int:
        """End the hub as a service manager does; return its status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode

    async def kill(self) -> None:
        """Kill the hub if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()


@asynccontextmanager
async def run_hubs(*options: str, count: int = 2) -> AsyncIterator[list[HubProcess]]:
    """Run several hubs with the same options."""
    hubs = [HubProcess(*options) for _ in range(count)]
    try:
        for hub in hubs:
            await hub.start()
        yield hubs
    finally:
        for hub in hubs:
            await hub.kill()


@asynccontextmanager
async def run_nginx(hubs: list[HubProcess], directory: Path) -> AsyncIterator[int]:
    """Run nginx in front of two hubs; give its port."""
    port = find_free_port()
    text = _insert_ports((FILES / "nginx.conf").read_text(), hubs)
    (directory / "hubs.conf").write_text(text.replace("listen 80;", f"listen 127.0.0.1:{port};"))
    (directory / "nginx.conf").write_text(_NGINX_MAIN)
    command = (find_program("nginx"), "-p", str(directory), "-c", "nginx.conf", "-e", "error.log")
    async with _run(command, port):
        yield port


@asynccontextmanager
async def run_caddy(hubs: list[HubProcess], directory: Path) -> AsyncIterator[int]:
    """Run Caddy in front of two hubs; give its port."""
    port = find_free_port()
    text = _insert_ports((FILES / "Caddyfile").read_text(), hubs)
    # Without a certificate, and without the port for the administration.
    text = text.replace("\napp.example {", f"\nhttp://127.0.0.1:{port} {{\n\tbind 127.0.0.1")
    (directory / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{text}")
    command = (find_program("caddy"), "run", "--config", str(directory / "Caddyfile"))
    async with _run(command, port, XDG_DATA_HOME=str(directory), XDG_CONFIG_HOME=str(directory)):
        yield port


def _insert_ports(text: str, hubs: list[HubProcess]) -> str:
    for number, hub in enumerate(hubs, 1):
        assert f"hub-{number}:8080" in text
        text = text.replace(f"hub-{number}:8080", f"127.0.0.1:{hub.port}")
    return text


@asynccontextmanager
async def _run(command: tuple[str, ...], port: int, **environment: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
    )
    try:
        await eventually(lambda: process.returncode is not None or _accepts(port))
        assert process.returncode is None, f"{command[0]} has ended"
        yield
    finally:
        process.terminate()
        await process.wait()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
