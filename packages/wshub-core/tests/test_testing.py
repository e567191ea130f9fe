"""The kit for applications' tests, where it is not used by the others."""

import asyncio

import pytest

from wshub_core import Hub, HubConfig, Message
from wshub_core.testing import ManualClock, connect


def test_the_clock_calls_each_at_its_time_and_in_order() -> None:
    clock = ManualClock()
    calls: list[tuple[str, float]] = []
    clock.call_at(2.0, lambda: calls.append(("late", clock.time())))
    clock.call_at(1.0, lambda: calls.append(("early", clock.time())))
    clock.call_at(1.5, lambda: calls.append(("never", clock.time()))).cancel()
    clock.call_at(1.0, lambda: clock.call_at(1.2, lambda: calls.append(("nested", clock.time()))))
    clock.advance(1.9)
    assert calls == [("early", 1.0), ("nested", 1.2)]
    clock.advance(5.0)
    assert calls[-1] == ("late", 2.0)
    assert clock.time() == 6.9


async def test_settle_waits_for_what_was_published_and_leaves_other_pongs_alone() -> None:
    async with Hub() as hub:
        client = await connect(hub)
        client.send(Message(type="ping"))
        hub.broadcast(Message(type="event", data=1))
        settled = asyncio.create_task(client.sync())
        await asyncio.sleep(0)
        hub.broadcast(Message(type="event", data=2))
        await settled
        await client.sync()
        assert [message.type for message in client.messages] == ["pong", "event", "event"]


async def test_one_that_takes_all_it_was_held_back_goes_on() -> None:
    async with Hub() as hub:
        client = await connect(hub)
        client.stall()
        hub.broadcast(Message(type="event", data=1))
        await asyncio.sleep(0)
        client.take_one()
        client.resume()
        hub.broadcast(Message(type="event", data=2))
        assert [(await client.receive()).data for _ in range(2)] == [1, 2]


async def test_a_stalled_client_that_goes_on_in_time_reads_why_it_was_closed() -> None:
    clock = ManualClock()
    async with Hub(HubConfig(max_outbox_bytes=70_000), clock=clock) as hub:
        client = await connect(hub)
        client.stall()
        for _ in range(3):
            hub.broadcast(Message(type="event", data="x" * 60_000))
            await asyncio.sleep(0)
        assert hub.connections == ()
        client.resume()
        assert (client.close_code, client.close_reason) == (1013, "slow consumer")


async def test_receiving_from_one_that_has_ended_says_so() -> None:
    async with Hub() as hub:
        client = await connect(hub)
        hub.send_event("last")
        await hub.close()
        assert (await client.receive()).type == "event"
        with pytest.raises(ConnectionResetError, match="closed with 1001"):
            await client.receive()
