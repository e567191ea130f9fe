"""A history that two hubs share, with every fault of a bridge and of a store.

Each client follows the rules of the wire protocol. At any time, its application has each message
once and in order, or was told of a gap. When the faults are over, it has the newest message.
"""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from history_support import leftovers
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    rule,
)
from rule_client import Delivered, RuleClient

from wshub_core import (
    HistoryLimits,
    HistoryUnavailableError,
    Hub,
    HubConfig,
    Message,
    MessageType,
    Position,
    StoredPage,
)
from wshub_core.hub import running_hub
from wshub_core.protocol.stream import Stream
from wshub_core.testing import (
    ManualClock,
    MemoryBridge,
    MemoryClient,
    MemoryExchange,
    MemoryHistory,
    connect,
)
from wshub_core.values.config import Overflow

CHANNEL = "log:a"
LIMITS = HistoryLimits(messages=8, bytes=3_000, seconds=1_000)

hub_numbers = st.integers(0, 1)


class RecordingHistory(MemoryHistory):
    """A history that records which data each position has had."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock.time)
        self.truth: dict[tuple[str, int], set[int]] = {}

    def append(self, channel: str, payload: bytes, limits: HistoryLimits) -> Position:
        position = super().append(channel, payload, limits)
        key = position.epoch, position.offset
        data = int(payload.partition(b'"data":')[2].partition(b",")[0].rstrip(b"}"))
        self.truth.setdefault(key, set()).add(data)
        return position

    def forget_newest(self, count: int) -> None:
        """Lose the newest messages and keep the epoch, which no store should do."""
        stream = self._streams.get(CHANNEL)
        if stream is not None:
            first, kept = stream.first, list(stream.read(stream.first - 1, 100, 10**9))
            older = kept[: max(len(kept) - count, 0)]
            shorter = Stream(stream.epoch, LIMITS, first - 1)
            for payload in older:
                shorter.append(payload, self._get_time())
            self._streams[CHANNEL] = shorter


class Stored(NamedTuple):
    """A message on its way to a hub."""

    channel: str
    epoch: str
    offset: int
    payload: bytes
    is_own: bool


class FaultyBridge(MemoryBridge):
    """A bridge that loses, doubles and holds messages, and reads slowly.

    Attributes:
        fault: What happens to messages that arrive: "", "lose", "double" or "hold".
        held: The messages that are held.
        read_turns: Number of rounds of the event loop that a read takes.
    """

    def __init__(self, hub: Hub, exchange: MemoryExchange) -> None:
        super().__init__(hub, exchange)
        self.fault = ""
        self.held: list[Stored] = []
        self.read_turns = 0

    def take_stored(
        self, channel: str, epoch: str, offset: int, payload: bytes, *, is_own: bool
    ) -> None:
        message = Stored(channel, epoch, offset, payload, is_own)
        if self.fault == "hold":
            self.held.append(message)
        elif self.fault != "lose":
            for _ in range(1 + (self.fault == "double")):
                self.pass_on(message)

    def pass_on(self, message: Stored) -> None:
        super().take_stored(*message[:4], is_own=message.is_own)

    async def read(
        self, channel: str, *, after: int, limit: int, limits: HistoryLimits
    ) -> StoredPage:
        for _ in range(self.read_turns):
            await asyncio.sleep(0)
        page = await super().read(channel, after=after, limit=limit, limits=limits)
        for _ in range(self.read_turns):
            await asyncio.sleep(0)
        return page


class Follower:
    """A client, its connection, and its state of the channel."""

    def __init__(self, wish: dict[str, Any] | None) -> None:
        self.rules = RuleClient(wish)
        self.client: MemoryClient | None = None

    async def connect(self, hub: Hub) -> None:
        self.leave()
        self.client = await connect(hub)
        self.rules.connect()
        self.send()

    def leave(self) -> None:
        if self.client is not None:
            self.client.vanish()
            self.client = None

    def send(self) -> None:
        while self.rules.requests:
            history = self.rules.requests.pop(0)
            assert self.client is not None
            self.client.send(subscribe_frame(history))

    def pump(self) -> bool:
        """Take the messages that have arrived; return whether there were any."""
        client = self.client
        if client is None or not client.messages:
            return False
        while client.messages:
            message = client.messages.popleft()
            assert message.type != MessageType.ERROR, message
            self.rules.feed(
                {
                    **{"type": message.type, "epoch": message.epoch, "offset": message.offset},
                    "data": message.data,
                }
            )
            self.send()
        return True


def subscribe_frame(history: dict[str, Any] | None) -> bytes:
    frame = {"type": "subscribe", "channel": CHANNEL, "id": 1}
    return json.dumps(frame | ({} if history is None else {"history": history})).encode()


class SharedHistoryMachine(RuleBasedStateMachine):
    followers = Bundle("followers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.everyone: list[Follower] = []
        self.number = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize(
        max_history_bytes=st.sampled_from([2_000, 10**6]),
        overflow=st.sampled_from(["close", "drop_oldest", "drop_newest"]),
    )
    def start(self, max_history_bytes: int, overflow: Overflow) -> None:
        self.clock = ManualClock()
        self.history = RecordingHistory(self.clock)
        self.exchange = MemoryExchange(self.history)
        self.stack = AsyncExitStack()
        config = HubConfig(
            history={"log:*": LIMITS},
            max_history_bytes=max_history_bytes,
            # A page has two messages, and an outbox has room for a dozen.
            max_message_bytes=1_000,
            max_outbox_bytes=1_200,
            overflow=overflow,
        )

        async def open_hubs() -> None:
            self.hubs = [
                await self.stack.enter_async_context(Hub(config, clock=self.clock))
                for _ in range(2)
            ]
            self.bridges = [
                await self.stack.enter_async_context(FaultyBridge(hub, self.exchange))
                for hub in self.hubs
            ]

        self.run(open_hubs())

    def teardown(self) -> None:
        if hasattr(self, "hubs"):
            self.end_all_faults()
            self.check_newest()
            self.run(self.end())
            assert asyncio.all_tasks(self.loop) == set()
        self.loop.close()

    async def end(self) -> None:
        running = [running_hub(hub) for hub in self.hubs]
        for each in self.everyone:
            each.leave()
        await self.turn(5)
        self.clock.advance(2)
        await self.turn(20)
        for hub in running:
            assert leftovers(hub) == {}
            assert hub.tasks.running == set()
        await self.stack.aclose()

    # Clients.

    @rule(
        target=followers,
        number=hub_numbers,
        wish=st.none()
        | st.builds(lambda n: {"last": n}, st.integers(0, 10))
        | st.just({"since": 0}),
    )
    def come(self, number: int, wish: dict[str, Any] | None) -> Any:
        follower = Follower(wish)
        self.everyone.append(follower)
        self.run(follower.connect(self.hubs[number]))
        return follower

    @rule(each=followers, number=hub_numbers)
    def reconnect(self, each: Follower, number: int) -> None:
        self.run(each.connect(self.hubs[number]))

    @rule(each=followers)
    def leave(self, each: Follower) -> None:
        each.leave()

    @rule(each=followers)
    def stall(self, each: Follower) -> None:
        if each.client is not None:
            each.client.stall()

    @rule(each=followers)
    def resume(self, each: Follower) -> None:
        if each.client is not None:
            each.client.resume()

    # Messages.

    @rule(number=hub_numbers, count=st.integers(1, 12))
    def publish(self, number: int, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.hubs[number].publish(CHANNEL, Message(type=MessageType.EVENT, data=self.number))

    @rule(number=hub_numbers)
    def clear(self, number: int) -> None:
        async def clear() -> None:
            try:
                await self.hubs[number].clear_history(CHANNEL)
            except HistoryUnavailableError:
                assert not self.history.is_available

        self.run(clear())

    @rule(turns=st.integers(1, 20))
    def let_the_loop_turn(self, turns: int) -> None:
        self.run(self.turn(turns))
        self.check_all()

    # Faults.

    @rule(number=hub_numbers, fault=st.sampled_from(["", "lose", "double", "hold"]))
    def set_fault(self, number: int, fault: str) -> None:
        self.bridges[number].fault = fault

    @rule(number=hub_numbers, is_reversed=st.booleans())
    def release(self, number: int, is_reversed: bool) -> None:
        bridge = self.bridges[number]
        held, bridge.held = bridge.held, []
        for message in reversed(held) if is_reversed else held:
            bridge.pass_on(message)

    @rule(number=hub_numbers)
    def resync(self, number: int) -> None:
        self.bridges[number].resync_history()

    @rule(number=hub_numbers, turns=st.integers(0, 30))
    def slow_down(self, number: int, turns: int) -> None:
        self.bridges[number].read_turns = turns

    @rule(is_available=st.booleans())
    def set_available(self, is_available: bool) -> None:
        self.history.is_available = is_available

    @rule()
    def lose_the_store(self) -> None:
        self.history.lose(CHANNEL)

    @rule(count=st.integers(1, 5))
    def forget_newest(self, count: int) -> None:
        self.history.forget_newest(count)

    @rule(seconds=st.sampled_from([1, 5, 31, 600]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    # Checks.

    async def turn(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
            for each in self.everyone:
                each.pump()

    def check_all(self) -> None:
        for each in self.everyone:
            each.rules.check(self.history.truth)

    def end_all_faults(self) -> None:
        self.history.is_available = True
        for number, bridge in enumerate(self.bridges):
            bridge.fault = ""
            bridge.read_turns = 0
            self.release(number, False)
        for each in self.everyone:
            if each.client is not None:
                each.client.resume()
        self.run(self.turn(100))
        for bridge in self.bridges:
            bridge.resync_history()
        self.run(self.turn(200))

    def check_newest(self) -> None:
        """Check that all clients have the newest message, or reconnect and then have it."""
        for each in self.everyone:
            if each.client is None or each.client.close_code is not None:
                self.run(each.connect(self.hubs[0]))
        self.run(self.turn(200))
        self.publish(1, 2)
        self.run(self.turn(200))
        self.check_all()
        page = self.history.read(CHANNEL, 0, 0, LIMITS)
        for each in self.everyone:
            assert not each.rules.is_asking, each.rules
            assert each.rules.position == (page.epoch, page.offset), (page, each.rules)
            last = each.rules.events[-1]
            assert isinstance(last, Delivered)
            assert last.data == self.number


SharedHistoryMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestSharedHistory = SharedHistoryMachine.TestCase
