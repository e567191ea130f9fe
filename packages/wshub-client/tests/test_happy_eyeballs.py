"""Hosts with several addresses, some of which are dead, and proxies."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from client_servers import run, tcp_server

from wshub_client import DialError, ReconnectingClient, RetriesExhaustedError
from wshub_core import Hub, InvalidConfigError

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy", "socks_proxy")


@pytest.fixture
async def port(hub: Hub) -> AsyncIterator[int]:
    async with hub.serve("127.0.0.1", 0) as server:
        yield server.port


@contextmanager
def black_hole(host: str) -> Iterator[int]:
    """Give a port that answers no SYN, because the queue of its listener is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, 0))
        listener.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Have the name ``hub.example`` stand for some addresses."""
    ask = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host not in ("hub.example", b"hub.example"):
            return ask(host, port, *args, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in addresses]

    async def getaddrinfo_async(host: Any, port: Any, **options: Any) -> Any:
        return getaddrinfo(host, port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with contextlib.suppress(AttributeError):  # uvloop's has its own, of which it is read-only
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo_async)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


async def test_a_dead_first_address_delays_the_dial_by_a_moment(
    hub: Hub, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with black_hole("127.0.0.2") as dead:
        resolve_to(monkeypatch, ("127.0.0.2", dead), ("127.0.0.1", port))
        async with asyncio.timeout(5), ReconnectingClient("ws://hub.example/ws", max_attempts=0):
            assert hub.stats().clients == 1


async def test_refused_addresses_cost_nothing_and_dead_ones_are_bounded(
    hub: Hub, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    with black_hole("127.0.0.2") as dead:
        addresses = [("127.0.0.1", closed), ("127.0.0.2", dead), ("127.0.0.1", closed)]
        resolve_to(monkeypatch, *addresses, ("127.0.0.1", port))
        async with asyncio.timeout(5), ReconnectingClient("ws://hub.example/ws", max_attempts=0):
            assert hub.stats().clients == 1
        resolve_to(monkeypatch, *addresses)
        error = await run(
            ReconnectingClient("ws://hub.example/ws", max_attempts=0, open_timeout=1.0)
        )
        assert "has not answered within 1 s" in str(getattr(error, "__cause__", ""))
        resolve_to(monkeypatch, *addresses[::2])
        error = await run(ReconnectingClient("ws://hub.example/ws", max_attempts=0))
        assert "Connect call failed" in str(getattr(error, "__cause__", "")) or "refused" in str(
            getattr(error, "__cause__", "")
        )


async def test_only_one_connection_is_kept(hub: Hub, port: int, monkeypatch: Any) -> None:
    resolve_to(monkeypatch, *[("127.0.0.1", port)] * 5)
    async with ReconnectingClient("ws://hub.example/ws") as client:
        await client.subscribe("a", confirm=True)
        assert hub.stats().connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_environment_has_no_proxy_for_this_machine(
    hub: Hub, port: int, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    async with ReconnectingClient(f"ws://{host}:{port}/ws", max_attempts=0):
        assert hub.stats().clients == 1


@asynccontextmanager
async def http_proxy(seen: list[str], port: int) -> AsyncIterator[str]:
    """Serve as a proxy that leads everybody to one port of this machine."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0])
        hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(copy(reader, hub_writer), copy(hub_reader, writer))

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_the_proxy_option_is_used(
    hub: Hub, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    async with http_proxy(seen, port) as proxy:
        url = f"ws://127.0.0.1:{port}/ws"
        async with ReconnectingClient(url, proxy=proxy):
            assert seen == [f"CONNECT 127.0.0.1:{port} HTTP/1.1"]
        for name in PROXIES:
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        async with ReconnectingClient("ws://hub.example/ws"):
            assert seen[1:] == ["CONNECT hub.example:80 HTTP/1.1"]
        async with ReconnectingClient(url):
            assert len(seen) == 2
        error = await run(
            ReconnectingClient("ws://hub.invalid/ws", proxy=None, max_attempts=0, open_timeout=5)
        )
        assert isinstance(error, RetriesExhaustedError)
        assert len(seen) == 2


@pytest.mark.parametrize(
    "proxy",
    [
        "foo://alice:s3cret@127.0.0.1:1",
        "http://alice:s3/cret@127.0.0.1:1",
        "http://alice:s3cret@:x",
    ],
)
async def test_errors_for_unusable_proxies_do_not_show_the_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidConfigError, match="is not the address of a proxy") as raised:
        ReconnectingClient("ws://hub.example/ws", proxy=proxy)
    assert "s3" not in str(raised.value)
    for name in PROXIES:
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    error = await run(ReconnectingClient("ws://hub.example/ws", max_attempts=0))
    assert isinstance(error, RetriesExhaustedError)
    assert isinstance(error.__cause__, DialError)
    assert "proxy" in str(error.__cause__)
    assert "s3" not in f"{error} {error.__cause__} {error.__cause__.__cause__}"


async def test_a_server_that_responds_before_the_request_is_a_failed_dial() -> None:
    dials = 0

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dials
        dials += 1
        writer.write(b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n")

    async with tcp_server(answer) as url:
        error = await run(
            ReconnectingClient(url, max_attempts=20, initial_backoff=0.001, max_backoff=0.002)
        )
    assert isinstance(error, RetriesExhaustedError)
    assert dials == 21
