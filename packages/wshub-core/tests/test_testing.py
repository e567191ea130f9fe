"""Parts of `wshub_core.testing` that no other test uses."""

import asyncio

import pytest

from wshub_core import Hub, HubConfig, Message
from wshub_core.testing import ManualClock, connect


def test_the_manual_clock_makes_each_call_at_its_time_and_in_order() -> None:
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


async def test_sync_waits_for_published_messages_and_keeps_other_pongs() -> None:
    async with Hub() as hub:
        client = await connect(hub)
        client.send(Message(type="ping"))
        client.send(b'{"type":"ping"}')
        hub.broadcast(Message(type="event", data=1))
        synced = asyncio.create_task(client.sync())
        await asyncio.sleep(0)
        hub.broadcast(Message(type="event", data=2))
        await synced
        await client.sync()
        assert [message.type for message in client.messages] == ["pong", "pong", "event", "event"]


async def test_a_stalled_client_that_takes_all_held_messages_can_resume() -> None:
    async with Hub() as hub:
        client = await connect(hub)
        client.stall()
        hub.broadcast(Message(type="event", data=1))
        await asyncio.sleep(0)
        client.take_one()
        client.resume()
        hub.broadcast(Message(type="event", data=2))
        assert [(await client.receive()).data for _ in range(2)] == [1, 2]


async def test_a_stalled_client_that_resumes_in_time_reads_the_close_reason() -> None:
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


async def test_receiving_after_the_end_raises_an_error_with_the_close_code() -> None:
    async with Hub() as hub:
        client = await connect(hub)
        hub.send_event("last")
        await hub.close()
        assert (await client.receive()).type == "event"
        with pytest.raises(ConnectionResetError, match="closed with 1001"):
            await client.receive()
