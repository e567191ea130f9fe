"""The drain of a hub: new clients are refused, and the others leave over a window."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE_SECONDS, Serve, present
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from wshub_core import (
    V1_SUBPROTOCOL,
    AuthResult,
    Connection,
    Disconnect,
    DisconnectCause,
    HistoryLimits,
    Hub,
    HubClosedError,
    HubConfig,
    HubNotStartedError,
    InvalidConfigError,
    Message,
    Request,
)
from wshub_core.testing import HandshakeRefusedError, ManualClock, connect


async def next_turns() -> None:
    """Let the tasks of the hub go on."""
    for _ in range(5):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def draining(hub: Hub, window: float) -> AsyncIterator[asyncio.Task[None]]:
    """Drain in a task; check that the drain ends."""
    task = asyncio.create_task(hub.drain_connections(window))
    await next_turns()
    yield task
    async with asyncio.timeout(10):
        await task


@given(count=st.integers(1, 60), window=st.sampled_from([0.5, 10.0, 300.0]))
def test_the_closes_are_spread_evenly_over_the_window(count: int, window: float) -> None:
    async def drain() -> None:
        clock = ManualClock()
        closed_at: list[float] = []
        config = HubConfig(on_disconnect=lambda *_: closed_at.append(clock.time()))
        async with Hub(config, clock=clock) as hub:
            for _ in range(count):
                await connect(hub)
            async with draining(hub, window) as task:
                for _ in range(100):
                    clock.advance(window / 100)
                    await next_turns()
                assert task.done()
            assert len(closed_at) == count
            # No tenth of the window has more than its share, and the rounding of the steps.
            share = count / 10 + count * 0.02 / window + 3
            for tenth in range(10):
                begin = tenth * window / 10
                found = [at for at in closed_at if begin <= at < begin + window / 10]
                assert len(found) <= share

    asyncio.run(drain())


async def test_a_client_gets_its_queued_messages_then_1012_with_the_hint() -> None:
    ends: list[Disconnect] = []
    config = HubConfig(on_disconnect=lambda _, end: ends.append(end))
    async with Hub(config) as hub:
        client = await connect(hub)
        hub.send_event("last")
        await hub.drain_connections(0)
        assert (await client.receive()).data["event"] == "last"
        assert (client.close_code, client.close_reason) == (1012, "retry-after: 0")
        assert ends == [Disconnect(DisconnectCause.SERVER_CLOSED, 1012, "retry-after: 0", 0)]


async def test_a_drained_hub_refuses_clients_during_the_drain_and_after_it() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        for _ in range(2):
            await connect(hub)
        async with draining(hub, 10.0):
            with pytest.raises(HandshakeRefusedError, match="503: Hub is restarting"):
                await connect(hub)
            clock.advance(10)
        with pytest.raises(HandshakeRefusedError) as caught:
            await connect(hub)
        assert caught.value.response.headers["Retry-After"] == "1"
        assert hub.stats().refused_handshakes == 2


async def test_clients_of_v1_are_refused_with_a_status_so_that_a_proxy_takes_another_hub(
    serve: Serve,
) -> None:
    served = await serve()
    await served.hub.drain_connections(0)
    for subprotocols in (None, [Subprotocol(V1_SUBPROTOCOL)]):
        with pytest.raises(InvalidStatus) as caught:
            await served.connect(subprotocols=subprotocols)
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["Retry-After"] == "1"


async def test_a_drain_ends_when_the_last_client_is_gone() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        await connect(hub)
        # One client is closed at once. The clock stands still.
        await hub.drain_connections(300)
        await hub.drain_connections(300)


async def test_a_drain_ends_when_the_other_clients_have_left_by_themselves() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        clients = [await connect(hub) for _ in range(3)]
        async with asyncio.timeout(PATIENCE_SECONDS), draining(hub, 600.0) as ending:
            await asyncio.wait(
                {asyncio.create_task(client.wait_closed()) for client in clients},
                return_when=asyncio.FIRST_COMPLETED,
            )
            for client in clients:
                client.close()
            # The clock stands still.
            await ending


async def test_clients_that_leave_by_themselves_are_skipped() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        clients = [await connect(hub) for _ in range(20)]
        async with draining(hub, 20.0):
            for client in clients[:15]:
                client.close()
            clock.advance(20)
        codes = [await client.wait_closed() for client in clients]
        assert codes.count(1012) >= 5


async def test_the_hub_delivers_during_a_drain() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        clients = [await connect(hub) for _ in range(2)]
        async with draining(hub, 10.0):
            [left] = [client for client in clients if client.close_code is None]
            hub.send_event("still here")
            assert (await left.receive()).data["event"] == "still here"
            clock.advance(10)


async def test_two_calls_wait_for_the_same_end() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        clients = [await connect(hub) for _ in range(3)]
        first = asyncio.create_task(hub.drain_connections(9))
        await next_turns()
        second = asyncio.create_task(hub.drain_connections(0))
        await next_turns()
        assert not second.done()
        first.cancel()
        await next_turns()
        clock.advance(9)
        await asyncio.wait_for(second, 10)
        assert all(client.close_code == 1012 for client in clients)


async def test_a_close_ends_a_drain_at_once() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        clients = [await connect(hub) for _ in range(3)]
        async with draining(hub, 1_000):
            await hub.close()
        codes = sorted([await client.wait_closed() for client in clients])
        assert codes == [1001, 1001, 1012]


async def test_a_callback_may_drain_the_hub() -> None:
    done = asyncio.Event()

    async def on_message(connection: Connection, message: Message) -> None:
        await hub.drain_connections(0)
        done.set()

    async with Hub(HubConfig(on_message=on_message)) as hub:
        client = await connect(hub)
        client.send(Message(type="event", data="drain"))
        assert await client.wait_closed() == 1012
        await asyncio.wait_for(done.wait(), 10)


async def test_a_callback_that_hangs_does_not_hold_up_a_drain() -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    async with Hub(HubConfig(on_message=hang, on_disconnect=hang, close_timeout=0.1)) as hub:
        client = await connect(hub)
        client.send(Message(type="event"))
        await next_turns()
        await asyncio.wait_for(hub.drain_connections(0), 10)
        assert client.close_code == 1012


async def test_a_client_that_takes_no_bytes_does_not_hold_up_a_drain(serve: Serve) -> None:
    served = await serve(close_timeout=0.1)
    client = await served.connect()
    client.socket.transport.pause_reading()
    for _ in range(15):
        served.hub.send_event("x" * 60_000)
    await asyncio.wait_for(served.hub.drain_connections(0), 10)
    assert present(served.hub) == (0, 0, 0)


async def test_a_flood_does_not_hold_up_a_drain(serve: Serve) -> None:
    served = await serve(history={"*": HistoryLimits()}, publish_authorizer=lambda *_: True)
    clients = [await served.connect() for _ in range(10)]
    url = f"ws://127.0.0.1:{served.server.port}/ws"
    statuses: set[int] = set()

    async def flood(number: int) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await clients[number].send(type="event", channel="a", data="x" * 1_000)
                await asyncio.sleep(0)

    async def knock() -> None:
        while not done:
            try:
                async with dial(url, proxy=None):
                    pass
            except InvalidStatus as refusal:
                statuses.add(refusal.response.status_code)

    done = False
    async with asyncio.TaskGroup() as group:
        for number in range(len(clients)):
            group.create_task(flood(number))
        await next_turns()
        draining = group.create_task(served.hub.drain_connections(0.5))
        for _ in range(3):
            group.create_task(knock())
        await asyncio.wait_for(asyncio.shield(draining), 10)
        done = True
    assert statuses == {503}
    for client in clients:
        assert client.socket.close_code == 1012


async def test_a_handshake_under_way_is_refused_at_its_end(serve: Serve) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def authenticate(_: Request) -> AuthResult:
        asked.set()
        await may_answer.wait()
        return AuthResult(True, "alice")

    served = await serve(authenticator=authenticate)
    dialing = asyncio.create_task(served.connect())
    await asked.wait()
    await asyncio.wait_for(served.hub.drain_connections(0), 10)
    may_answer.set()
    with pytest.raises(InvalidStatus) as caught:
        await dialing
    assert caught.value.response.status_code == 503


@pytest.mark.parametrize("window", [-1, nan, inf, -inf])
async def test_an_invalid_window_is_refused(window: float) -> None:
    async with Hub() as hub:
        with pytest.raises(InvalidConfigError, match="window must be 0 or a number of seconds"):
            await hub.drain_connections(window)
        await connect(hub)


async def test_only_a_running_hub_can_be_drained() -> None:
    hub = Hub()
    with pytest.raises(HubNotStartedError):
        await hub.drain_connections(0)
    async with hub:
        pass
    with pytest.raises(HubClosedError):
        await hub.drain_connections(0)


async def test_the_rate_is_even_if_each_step_closes_several_connections() -> None:
    """1.1 connections fall into the shortest pause. Rounded up, the rate would begin too high."""
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        for _ in range(55):
            await connect(hub)
        async with draining(hub, 1.0):
            left = []
            for _ in range(10):
                left.append(hub.stats().clients)
                clock.advance(0.1)
        differences = [before - after for before, after in pairwise([*left, 0])]
        # The first step comes at the beginning.
        assert all(4 <= each <= 8 for each in differences), differences
