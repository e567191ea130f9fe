"""What happens to a shared history while this hub waits for a read of the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from wshub_core import HistoryLimits, Hub, HubConfig, MessageType, StoredPage
from wshub_core.protocol.stream import Stream
from wshub_core.testing import MemoryBridge, MemoryExchange, MemoryHistory
from wshub_core.testing.history_reader import fill, open_reader, publish

CHANNEL = "log:a"
LIMITS = HistoryLimits(messages=8)
CONFIG = HubConfig(history={"log:*": LIMITS}, max_message_bytes=1_000, max_outbox_bytes=4_000)


class SlowBridge(MemoryBridge):
    """A bridge that loses messages, and whose reads end when the test lets them.

    Attributes:
        loses: Whether messages that arrive are lost.
        gate: The reads end while it is set. What they return was read before they waited for it.
        reads: Number of reads that have begun.
    """

    def __init__(self, hub: Hub, exchange: MemoryExchange) -> None:
        super().__init__(hub, exchange)
        self.loses = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0

    def take_stored(
        self, channel: str, epoch: str, offset: int, payload: bytes, *, is_own: bool
    ) -> None:
        if not self.loses:
            super().take_stored(channel, epoch, offset, payload, is_own=is_own)

    async def read(
        self, channel: str, *, after: int, limit: int, limits: HistoryLimits
    ) -> StoredPage:
        page = await super().read(channel, after=after, limit=limit, limits=limits)
        self.reads += 1
        await self.gate.wait()
        return page

    async def hold_read(self) -> None:
        """Wait for the next read, and hold it."""
        self.gate.clear()
        begun = self.reads
        async with asyncio.timeout(10):
            while self.reads == begun:  # noqa: ASYNC110
                await asyncio.sleep(0)


@asynccontextmanager
async def open_hubs(config: HubConfig) -> AsyncIterator[tuple[Hub, Hub, SlowBridge]]:
    """Open two hubs with one history; yield them, and the bridge of the first one."""
    exchange = MemoryExchange(MemoryHistory())
    async with (
        Hub(config) as here,
        Hub(config) as there,
        SlowBridge(here, exchange) as bridge,
        MemoryBridge(there, exchange),
    ):
        yield here, there, bridge


async def settle() -> None:
    """Let all tasks go on that wait for nothing."""
    for _ in range(20):
        await asyncio.sleep(0)


def lose(bridge: SlowBridge, hub: Hub, data: int) -> None:
    """Publish a message that does not arrive at a bridge."""
    bridge.loses = True
    publish(hub, CHANNEL, [data])
    bridge.loses = False


async def test_a_page_that_was_read_before_a_clearing_is_dropped() -> None:
    async with open_hubs(CONFIG) as (here, there, bridge):
        reader = await open_reader(here)
        await reader.subscribe(CHANNEL)
        await fill(there, CHANNEL, range(3))
        await reader.receive(3, after=0)
        lose(bridge, there, 3)
        publish(there, CHANNEL, [4])
        await bridge.hold_read()
        await there.clear_history(CHANNEL)
        await settle()
        bridge.gate.set()
        page = await fill(there, CHANNEL, ["new"])
        messages = await reader.receive_until("new")
        assert {each.epoch for each in messages if each.offset} == {page.epoch}
        assert messages[-1].offset == 1


async def test_what_was_lost_during_a_read_is_read_again() -> None:
    async with open_hubs(CONFIG) as (here, there, bridge):
        reader = await open_reader(here)
        await reader.subscribe(CHANNEL)
        await fill(there, CHANNEL, range(2))
        await reader.receive(2, after=0)
        lose(bridge, there, 2)
        publish(there, CHANNEL, [3])
        await bridge.hold_read()
        lose(bridge, there, 4)
        publish(there, CHANNEL, [5])
        await settle()
        bridge.gate.set()
        assert await reader.receive(4, after=2) == [2, 3, 4, 5]


@pytest.mark.parametrize("turns", range(12))
async def test_older_messages_that_were_loaded_before_a_clearing_are_dropped(turns: int) -> None:
    config = HubConfig(
        history={"log:*": HistoryLimits(messages=400)},
        max_message_bytes=1_000,
        max_history_bytes=100_000,
    )
    async with open_hubs(config) as (here, there, bridge):
        await fill(there, CHANNEL, range(500))
        await (await open_reader(here)).subscribe(CHANNEL)
        await (await open_reader(here)).subscribe("log:b")
        reader = await open_reader(here)
        asking = asyncio.create_task(reader.subscribe(CHANNEL, since=0))
        await bridge.hold_read()
        for _ in range(turns):
            # The hub frames the page, a hundred messages a turn.
            bridge.gate.set()
            await asyncio.sleep(0)
        await there.clear_history(CHANNEL)
        bridge.gate.set()
        await asking
        page = await fill(there, CHANNEL, ["new"])
        late = await open_reader(here)
        answer = await late.subscribe(CHANNEL, since=0)
        assert (answer["epoch"], answer["first"], answer["offset"]) == (page.epoch, 1, 1)
        assert await late.receive(1, after=0) == ["new"]
        # The same when the message has to be read again, because the memory was needed.
        await fill(there, "log:b", ["x" * 800] * 150)
        await settle()
        late = await open_reader(here)
        assert await late.subscribe(CHANNEL, since=0) == answer
        assert await late.receive(1, after=0) == ["new"]


async def test_after_a_clearing_the_new_messages_are_read_from_the_first_one() -> None:
    # The messages of both channels do not fit into the memory of this hub.
    config = HubConfig(history={"log:*": LIMITS}, max_history_bytes=1_000)
    async with open_hubs(config) as (here, there, bridge):
        await fill(there, CHANNEL, range(30))
        reader = await open_reader(here)
        assert (await reader.subscribe(CHANNEL, since=0))["first"] == 23
        await there.clear_history(CHANNEL)
        await fill(there, CHANNEL, range(4))
        await reader.receive_until(3)
        other = await open_reader(here)
        await other.subscribe("log:b")
        await fill(there, "log:b", ["x" * 800])
        await other.receive_until("x" * 800)
        reads = bridge.reads
        late = await open_reader(here)
        answer = await late.subscribe(CHANNEL, since=0)
        assert bridge.reads > reads, "the messages were still in memory"
        assert (answer["first"], answer["recovered"]) == (1, True)
        assert await late.receive(4, after=0) == [0, 1, 2, 3]


async def test_a_client_hears_that_the_store_went_back_while_it_received_the_history() -> None:
    history = ForgetfulHistory()
    exchange = MemoryExchange(history)
    async with Hub(CONFIG) as hub, SlowBridge(hub, exchange) as bridge:
        page = await fill(hub, CHANNEL, ["x" * 700] * 8)
        reader = await open_reader(hub)
        await reader.subscribe(CHANNEL, since=0)
        # Each page has one message.
        async with asyncio.timeout(10):
            while len(reader.client.messages) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0)
        reader.client.stall()
        history.forget_newest(CHANNEL, 7)
        bridge.resync_history()
        await settle()
        reader.client.resume()
        while (message := await reader.next()).type != MessageType.HISTORY_POSITION:
            assert message.offset < 8
        assert message.data == {"epoch": page.epoch, "offset": 1}


class ForgetfulHistory(MemoryHistory):
    """A history that loses its newest messages and keeps the epoch, as no store should."""

    def forget_newest(self, channel: str, count: int) -> None:
        stream = self._streams[channel]
        kept = list(stream.read(stream.first - 1, 100, 10**9))[:-count]
        shorter = Stream(stream.epoch, LIMITS, stream.first - 1)
        for payload in kept:
            shorter.append(payload, self._get_time())
        self._streams[channel] = shorter
