"""The configurations of nginx and Caddy in the documentation, with two real hubs."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import pytest
from deployment import HubProcess, run_caddy, run_hubs, run_nginx
from redis_servers import run_server
from support import WireClient, eventually
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

RunProxy: TypeAlias = Callable[[list[HubProcess], Path], AbstractAsyncContextManager[int]]

pytestmark = pytest.mark.parametrize(
    "run_proxy", [pytest.param(run_nginx, id="nginx"), pytest.param(run_caddy, id="caddy")]
)


async def status_of(port: int, path: str) -> int:
    def ask() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    return await asyncio.to_thread(ask)


async def dial(port: int) -> ClientConnection:
    """Connect as a page of the same host does."""
    return await connect(
        f"ws://127.0.0.1:{port}/ws",
        origin=Origin(f"http://127.0.0.1:{port}"),
        subprotocols=[Subprotocol("wshub.v1")],
        proxy=None,
    )


async def test_pages_and_websockets_pass_and_probes_do_not(
    run_proxy: RunProxy, tmp_path: Path
) -> None:
    # A connection without messages lives by the heartbeat of its hub.
    heartbeat = ("--heartbeat-interval", "0.1", "--pong-timeout", "1")
    options = (*heartbeat, "--allow-publish", "--metrics")
    async with run_hubs(*options) as hubs, run_proxy(hubs, tmp_path) as port:
        for path, status in [
            *(("/", 200), ("/channels", 200), ("/wshub.js", 200), ("/ws", 426)),
            *(("/readyz", 404), ("/healthz", 404), ("/metrics", 404)),
            *(("/metrics/", 404), ("/metrics/x", 404), ("/metrics%2Fx", 404), ("//metrics", 404)),
        ]:
            assert await status_of(port, path) == status
        async with await dial(port) as socket:
            client = WireClient(socket)
            await client.subscribe("a")
            await asyncio.sleep(1.5)
            await client.send(type="event", channel="a", data="x" * 60_000, id=1)
            assert len((await client.receive())["data"]) == 60_000
            assert (await client.receive())["type"] == "published"


async def test_clients_of_a_drained_hub_get_to_the_other_hub(
    run_proxy: RunProxy, tmp_path: Path
) -> None:
    with run_server() as redis:
        options = ("--redis", redis.url, "--drain-window", "60", "--allow-publish")
        async with run_hubs(*options) as hubs, run_proxy(hubs, tmp_path) as port:
            first = [await dial(port) for _ in range(8)]
            ending = asyncio.create_task(hubs[0].terminate())
            await eventually(lambda: any(each.close_code is not None for each in first))
            # Caddy checks the health of the hubs once a second.
            await asyncio.sleep(2)
            second = [await dial(port) for _ in range(8)]
            clients = [WireClient(each) for each in (*first, *second) if each.close_code is None]
            for client in clients:
                await client.subscribe("a")
            # The hub that is drained still delivers to the clients that it has.
            assert len(clients) == 15
            await clients[-1].send(type="event", channel="a", data="to all")
            for client in clients:
                assert (await client.receive())["data"] == "to all"
            for each in (*first, *second):
                await each.close()
            ending.cancel()
