"""The reconnect loop: losses, the backoff between dials, and terminal errors."""

import asyncio
from functools import partial
from itertools import pairwise

import pytest
from client_servers import (
    QUICK,
    Log,
    answer_pings,
    event,
    has,
    has_accepted,
    has_dialled,
    run,
    websocket_server,
)
from support import eventually
from websockets.asyncio.server import ServerConnection

from wshub_client import (
    ClosedError,
    ConnectionState,
    LostError,
    ReconnectingClient,
    RetriesExhaustedError,
)
from wshub_core import Hub
from wshub_core.testing import ManualClock

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


async def test_a_flapping_server_is_dialed_with_growing_waits() -> None:
    dials: list[float] = []
    clock = ManualClock()

    async def flap(socket: ServerConnection) -> None:
        dials.append(clock.time())
        await socket.recv()
        await socket.send('{"type":"pong"}')
        await socket.close(1011)

    log = Log()
    async with websocket_server(flap) as url:
        client = ReconnectingClient(url, clock=clock, stable_after=60.0, **log.callbacks())
        running = asyncio.create_task(run(client))
        for number in range(1, 8):
            await eventually(partial(has_dialled, dials, number))
            await eventually(partial(has, log.entries, "disconnect", number))
            assert client.state is ConnectionState.DISCONNECTED
            # At the end of the bound at the latest, and never two at a time.
            clock.advance(min(2.0 ** (number - 1), 30.0))
        await eventually(lambda: len(dials) == 8)
        await client.close()
        await running
    waits = [later - earlier for earlier, later in pairwise(dials)]
    assert all(wait <= min(2.0**n, 30.0) for n, wait in enumerate(waits))
    assert log.entries[:5] == ["connect", "LostError", "disconnect", ("reconnect", 1), "LostError"]


async def test_a_stable_connection_resets_the_number_of_failures(hub: Hub, url: str) -> None:
    clock = ManualClock()
    log = Log()
    client = ReconnectingClient(
        url, clock=clock, stable_after=60.0, max_attempts=1, **log.callbacks()
    )
    running = asyncio.create_task(run(client))
    for number in range(1, 4):
        await eventually(partial(has_accepted, hub, number))
        await eventually(lambda: client.state is ConnectionState.CONNECTED)
        clock.advance(61.0)
        await hub.connections[0].close(1000)
        await eventually(partial(has, log.entries, "disconnect", number))
        clock.advance(1.0)
    await eventually(lambda: client.state is ConnectionState.CONNECTED)
    await client.close()
    assert await running is None


async def test_unreadable_messages_are_skipped_and_too_large_ones_end_the_connection() -> None:
    sent = 0

    async def send_junk(socket: ServerConnection) -> None:
        nonlocal sent
        sent += 1
        for junk in (
            "",
            "\n\n",
            "junk",
            "[]",
            "null",
            "1",
            '{"type":5}',
            "[" * 60_000,
            b"\xff\xfe",
        ):
            await socket.send(junk)
        if sent == 1:
            await socket.recv()
            await socket.send('{"type":"pong"}')
            await socket.send("x" * 200_000)
        await answer_pings(socket)

    log = Log()
    async with websocket_server(send_junk) as url:
        client = ReconnectingClient(url, max_message_bytes=100_000, **QUICK, **log.callbacks())
        running = asyncio.create_task(run(client))
        await eventually(lambda: ("reconnect", 1) in log.entries)
        await client.close()
        await running
    assert log.entries == ["connect", "LostError", "disconnect", ("reconnect", 1), "disconnect"]


async def test_a_lost_connection_has_its_code_reason_and_retry_after() -> None:
    async def leave(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"pong"}')
        await socket.close(1013, "retry-after: 7")

    log = Log()
    async with websocket_server(leave) as url:
        client = ReconnectingClient(url, clock=ManualClock(), **log.callbacks())
        running = asyncio.create_task(run(client))
        await eventually(lambda: "disconnect" in log.entries)
        await client.close()
        await running
    (error,) = log.errors
    assert isinstance(error, LostError)
    assert (error.code, error.reason, error.retry_after) == (1013, "retry-after: 7", 7.0)


async def test_running_again_after_the_end_raises_the_same_error(url: str) -> None:
    async def leave(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(4500, "banned")

    async with websocket_server(leave) as banning:
        client = ReconnectingClient(banning)
        for _ in range(2):
            with pytest.raises(ClosedError, match="4500 banned"):
                await client.run()


async def test_a_server_that_floods_and_never_answers_is_a_failed_dial() -> None:
    async def flood(socket: ServerConnection) -> None:
        while True:
            await socket.send(event("x" * 500_000))

    async with websocket_server(flood) as url:
        client = ReconnectingClient(
            url, max_attempts=0, open_timeout=30.0, max_message_bytes=1_000_000
        )
        error = await run(client)
    assert isinstance(error, RetriesExhaustedError)
    assert "sends without end" in str(error.__cause__)
