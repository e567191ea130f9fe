"""The heartbeat of a client, with a clock that the test moves."""

import asyncio

import pytest
from client_servers import Log, event, run, websocket_server
from support import eventually
from websockets.asyncio.server import ServerConnection

from wshub_client import ReconnectingClient
from wshub_core.testing import ManualClock

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


async def test_a_dead_connection_is_detected() -> None:
    clock = ManualClock()
    pings = 0

    async def fall_silent(socket: ServerConnection) -> None:
        nonlocal pings
        async for _ in socket:
            pings += 1
            if pings == 1:
                await socket.send('{"type":"pong"}')

    log = Log()
    async with websocket_server(fall_silent) as url:
        client = ReconnectingClient(
            url, clock=clock, heartbeat_interval=25.0, pong_timeout=10.0, **log.callbacks()
        )
        running = asyncio.create_task(run(client))
        await eventually(lambda: log.entries == ["connect"])
        clock.advance(24.0)
        await asyncio.sleep(0.01)
        assert pings == 1
        clock.advance(2.0)
        await eventually(lambda: pings == 2)
        assert log.entries == ["connect"]
        clock.advance(10.0)
        await eventually(lambda: log.entries[1:] == ["LostError", "disconnect"])
        assert str(log.errors[0]) == "connection lost: 1006 nothing came for 35 s"
        await client.close()
        await running


async def test_every_message_postpones_the_ping() -> None:
    clock = ManualClock()
    pings = 0
    open_sockets: list[ServerConnection] = []

    async def talk(socket: ServerConnection) -> None:
        nonlocal pings
        open_sockets.append(socket)
        async for _ in socket:
            pings += 1
            await socket.send('{"type":"pong"}')

    async with websocket_server(talk) as url, ReconnectingClient(url, clock=clock) as client:
        for number in range(5):
            clock.advance(20.0)
            await open_sockets[0].send(event(number))
            assert (await client.receive()).data == number
        assert pings == 1
