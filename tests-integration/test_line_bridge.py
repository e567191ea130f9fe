"""The example bridge passes the tests of every bridge, with a broker on a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from fleet import wait_until
from line_bridge import LineBridge
from line_broker import LineBroker
from redis_servers import find_free_port
from tcp_proxy import run_proxy

from wshub_core import Bridge, BridgeState, Hub, Message, MessageType
from wshub_core.testing import BridgeContract, connect


@asynccontextmanager
async def run_broker(port: int = 0) -> AsyncIterator[int]:
    """Run the broker, and return its port."""
    server = await asyncio.start_server(LineBroker().serve, "127.0.0.1", port, limit=2**20)
    async with server:
        yield server.sockets[0].getsockname()[1]


class TestLineBridge(BridgeContract):
    port: int

    @pytest.fixture(autouse=True)
    async def broker(self) -> AsyncIterator[None]:
        async with run_broker() as self.port:
            yield

    def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
        return LineBridge(hub, "127.0.0.1", self.port)


async def test_the_bridge_reconnects_and_subscribes_again() -> None:
    async with Hub() as here, Hub() as there, run_broker() as port, run_proxy(port) as proxy:
        client = await connect(there)
        client.subscribe("news")
        await client.sync()
        async with (
            LineBridge(here, "127.0.0.1", port),
            LineBridge(there, "127.0.0.1", proxy.port) as bridge,
        ):
            proxy.is_refusing = True
            proxy.close_connections()
            await wait_until(lambda: bridge.state == BridgeState.DOWN)
            proxy.is_refusing = False
            client.send(b'{"type":"subscribe","channel":"late","id":1}')
            assert (await client.receive()).type == MessageType.SUBSCRIBED
            assert bridge.state == BridgeState.UP
            for channel in ("news", "late"):
                here.publish(channel, Message(type=MessageType.EVENT, data=channel))
                assert (await client.receive()).data == channel


async def test_the_bridge_starts_without_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("line_bridge.WAIT_SECONDS", 0.1)
    async with Hub() as hub, LineBridge(hub, "127.0.0.1", find_free_port()) as bridge:
        assert bridge.state == BridgeState.DOWN
        client = await connect(hub)
        hub.send_event("local")
        assert (await client.receive()).data["event"] == "local"


async def test_malformed_lines_and_junk_do_not_stop_the_bridge() -> None:
    async with Hub() as hub, run_broker() as port, LineBridge(hub, "127.0.0.1", port):
        client = await connect(hub)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        for data in (b"nothing", b"x junk", b'x {"type":"event","data":"last"}'):
            writer.write(b"PUB @everyone %b\n" % data)
        assert (await client.receive()).data == "last"
        writer.close()
        await writer.wait_closed()
