import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_client.inbox import Inbox


def never() -> bool:
    return False


async def drain(inbox: Inbox[str]) -> list[str]:
    inbox.close()
    items = []
    while (item := await inbox.get()) is not None:
        items.append(item)
    return items


@pytest.mark.parametrize(
    ("overflow", "kept"),
    [("drop_oldest", ["2", "e", "3", "4"]), ("drop_newest", ["0", "1", "e", "2"])],
)
async def test_messages_without_room_are_dropped_and_events_are_kept(
    overflow: str, kept: list[str]
) -> None:
    inbox: Inbox[str] = Inbox(3, overflow)  # type: ignore[arg-type]
    for item in ("0", "1", "e", "2", "3", "4"):
        if item == "e":
            inbox.put_event(item)
        else:
            await inbox.put(item, never)
    assert inbox.dropped == 2
    expected = kept if overflow == "drop_newest" else ["e", "2", "3", "4"]
    assert await drain(inbox) == expected


async def test_waiting_for_room() -> None:
    inbox: Inbox[str] = Inbox(1, "wait")
    await inbox.put("0", never)
    putting = [asyncio.create_task(inbox.put(item, never)) for item in "12"]
    await asyncio.sleep(0)
    inbox.put_event("e")
    assert not any(task.done() for task in putting)
    assert [await inbox.get() for _ in range(4)] == ["0", "e", "1", "2"]
    await asyncio.wait(putting)
    assert inbox.dropped == 0


async def test_closing_ends_all_waits() -> None:
    full: Inbox[str] = Inbox(1, "wait")
    await full.put("0", never)
    putting = asyncio.create_task(full.put("1", never))
    empty: Inbox[str] = Inbox(1, "wait")
    getting = asyncio.create_task(empty.get())
    await asyncio.sleep(0)
    full.close()
    empty.close()
    await putting
    assert await getting is None
    assert await full.get() == "0"
    assert await full.get() is None


async def test_reading_ahead_gives_more_room() -> None:
    inbox: Inbox[int] = Inbox(2, "wait")
    for number in range(2):
        await inbox.put(number, never)
    putting = asyncio.create_task(inbox.put(2, never))
    await asyncio.sleep(0)
    assert not putting.done()
    with inbox.read_ahead():
        await putting
        for number in range(3, 40):
            await inbox.put(number, never)
    assert inbox.dropped == 8
    assert [await inbox.get() for _ in range(32)] == list(range(8, 40))


async def test_no_message_waits_for_room_when_the_connection_has_ended() -> None:
    inbox: Inbox[str] = Inbox(1, "wait")
    has_ended = False
    await inbox.put("0", never)
    putting = asyncio.create_task(inbox.put("1", lambda: has_ended))
    await asyncio.sleep(0)
    has_ended = True
    inbox.wake()
    await putting
    assert [await inbox.get() for _ in range(2)] == ["0", "1"]


@given(st.lists(st.sampled_from(["put", "event", "get"]), max_size=60), st.integers(1, 4))
async def test_the_order_of_items_is_kept(steps: list[str], size: int) -> None:
    inbox: Inbox[int] = Inbox(size, "drop_oldest")
    put: list[int] = []
    got: list[int] = []
    for number, step in enumerate(steps):
        if step == "put":
            await inbox.put(number, never)
            put.append(number)
        elif step == "event":
            inbox.put_event(number)
            put.append(number)
        elif put and len(got) + inbox.dropped < len(put):
            item = await inbox.get()
            assert item is not None
            got.append(item)
    inbox.close()
    while (item := await inbox.get()) is not None:
        got.append(item)
    assert got == sorted(got)
    assert len(got) + inbox.dropped == len(put)
    assert set(got) <= set(put)
    assert all(number in got for number, step in enumerate(steps) if step == "event")
