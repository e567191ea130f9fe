"""Closing and cancelling a client at every moment."""

import asyncio

import pytest
from client_servers import HELLO, QUICK, Log, hang_up, run, tcp_server, websocket_server
from support import eventually
from websockets.asyncio.server import ServerConnection

from wshub_client import ClientClosedError, ConnectionState, NotConnectedError, ReconnectingClient
from wshub_core import Hub, Message
from wshub_core.testing import ManualClock

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


async def test_closing_before_the_start(url: str) -> None:
    client = ReconnectingClient(url)
    await client.close()
    await client.close()
    await client.run()
    for use in (client.subscribe("a"), client.send(HELLO), client.publish("a"), client.receive()):
        with pytest.raises(ClientClosedError):
            await use
    with pytest.raises(ClientClosedError):
        async with client:
            pass
    assert [message async for message in client] == []


async def test_closing_during_a_dial() -> None:
    dialled = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.set()
        await reader.read()

    async with tcp_server(accept) as url:
        log = Log()
        client = ReconnectingClient(url, **log.callbacks())
        running = asyncio.create_task(run(client))
        await dialled.wait()
        assert client.state is ConnectionState.CONNECTING
        async with asyncio.timeout(2):
            await client.close()
            assert await running is None
        assert log.entries == []


async def test_closing_between_two_dials() -> None:
    log = Log()
    async with tcp_server(hang_up) as url:
        client = ReconnectingClient(url, clock=ManualClock(), **log.callbacks())
        running = asyncio.create_task(run(client))
        await eventually(lambda: log.entries == ["DialError"])
        async with asyncio.timeout(2):
            await asyncio.gather(client.close(), client.close())
        assert await running is None
        assert log.entries == ["DialError"]


async def test_closing_disconnects_from_the_hub_and_ends_all_waits(url: str, hub: Hub) -> None:
    client = ReconnectingClient(url)
    async with client:
        await client.subscribe("news", confirm=True)
        receiving = asyncio.create_task(client.receive())
        await asyncio.sleep(0)
        assert client.state is ConnectionState.CONNECTED
    with pytest.raises(ClientClosedError):
        await receiving
    await eventually(lambda: hub.stats().clients == 0)
    with pytest.raises(ClientClosedError):
        await client.send(HELLO)


async def test_cancelling_at_any_moment_leaves_no_connection(hub: Hub, url: str) -> None:
    for turns in range(60):
        client = ReconnectingClient(url, **QUICK)
        await client.subscribe("news")
        running = asyncio.create_task(client.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert client.state is ConnectionState.DISCONNECTED
    await eventually(lambda: hub.stats().clients == 0)


async def test_closing_at_any_moment_leaves_no_connection(hub: Hub, url: str) -> None:
    for turns in range(60):
        client = ReconnectingClient(url, **QUICK)
        running = asyncio.create_task(client.run())
        subscribing = asyncio.create_task(client.subscribe("news", confirm=True))
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.close()
        await running
        results = await asyncio.gather(subscribing, return_exceptions=True)
        assert results[0] is None or isinstance(results[0], ClientClosedError)
    await eventually(lambda: hub.stats().clients == 0)


async def test_closing_does_not_wait_for_a_server_that_does_not_read() -> None:
    release = asyncio.Event()

    async def stop_reading(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"pong"}')
        socket.transport.pause_reading()
        await release.wait()

    async with websocket_server(stop_reading, close_timeout=0.1) as url:
        client = ReconnectingClient(url, close_timeout=0.2)
        async with asyncio.timeout(10), client:

            async def send_much() -> None:
                while True:
                    await client.send(Message(type="event", data="x" * 60_000))

            sending = asyncio.create_task(send_much())
            await asyncio.sleep(0.2)
            await asyncio.gather(client.close(), client.close())
            with pytest.raises((NotConnectedError, ClientClosedError)):
                await sending
        release.set()
