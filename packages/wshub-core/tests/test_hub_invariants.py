"""A hub under random use, compared with a simple model.

The model appends each message for a connected client to a list. At rest, a client that reads has
received exactly the messages of its list, except those that were counted as dropped. A client that
was closed has received the first messages of its list.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from wshub_core import Connection, Hub, HubConfig, Message, SubscriptionLimitError
from wshub_core.testing import ManualClock, MemoryClient, connect

CHANNELS = ["a", "b", "c", "d"]
LIMIT = 3
OUTBOX = 2_000

channels = st.sampled_from(CHANNELS)


class Modelled:
    """A client, and the messages that it should have received."""

    def __init__(self, client: MemoryClient, connection: Connection) -> None:
        self.client = client
        self.connection = connection
        self.subscriptions: set[str] = set()
        self.expected: list[int] = []
        self.is_stalled = False
        self.is_here = True

    @property
    def received(self) -> list[int]:
        return [message.data[0] for message in self.client.messages if message.type == "n"]


class HubMachine(RuleBasedStateMachine):
    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.everyone: list[Modelled] = []
        self.number = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize(overflow=st.sampled_from(["close", "drop_oldest", "drop_newest"]))
    def start(self, overflow: Any) -> None:
        self.overflow = overflow
        self.clock = ManualClock()
        config = HubConfig(
            max_message_bytes=1_000,
            max_outbox_bytes=OUTBOX,
            max_subscriptions=LIMIT,
            overflow=overflow,
        )
        self.hub = Hub(config, clock=self.clock)
        self.run(self.hub.__aenter__())

    def teardown(self) -> None:
        if hasattr(self, "hub"):
            for each in self.everyone:
                each.client.resume()
            self.run(self.wait_for_rest())
            self.check_all()
            self.run(self.hub.close())
            assert self.hub.stats().clients == 0
            assert self.hub.channels == ()
            assert asyncio.all_tasks(self.loop) == set()
        self.loop.close()

    # Clients connect, subscribe and leave.

    @rule(target=clients)
    def come(self) -> Modelled:
        before = set(self.hub.connections)
        client = self.run(connect(self.hub))
        (connection,) = set(self.hub.connections) - before
        modelled = Modelled(client, connection)
        self.everyone.append(modelled)
        # Connecting gives the loop a round, in which published messages can overflow an outbox.
        self.note_evictions()
        return modelled

    @rule(each=clients, channel=channels)
    def subscribe(self, each: Modelled, channel: str) -> None:
        each.client.subscribe(channel)
        if each.is_here and len(each.subscriptions | {channel}) <= LIMIT:
            each.subscriptions.add(channel)

    @rule(each=clients, channel=channels)
    def subscribe_from_the_server(self, each: Modelled, channel: str) -> None:
        if each.is_here and len(each.subscriptions | {channel}) > LIMIT:
            with pytest.raises(SubscriptionLimitError):
                self.run(self.hub.subscribe(each.connection, channel))
        else:
            self.run(self.hub.subscribe(each.connection, channel))
            if each.is_here:
                each.subscriptions.add(channel)
        self.note_evictions()

    @rule(each=clients, channel=channels)
    def unsubscribe(self, each: Modelled, channel: str) -> None:
        each.client.unsubscribe(channel)
        each.subscriptions.discard(channel)

    @rule(each=clients)
    def stall(self, each: Modelled) -> None:
        each.client.stall()
        each.is_stalled = True

    @rule(each=clients)
    def resume(self, each: Modelled) -> None:
        each.client.resume()
        each.is_stalled = False

    @rule(each=consumes(clients), how=st.sampled_from(["close", "vanish", "server"]))
    def go(self, each: Modelled, how: str) -> None:
        if how == "close":
            each.client.close()
        elif how == "vanish":
            each.client.vanish()
        else:
            # In a task, because a stalled client delays the end until the timeout.
            async def close() -> None:
                closing = asyncio.create_task(each.connection.close(4000))
                await asyncio.sleep(0)
                self.clock.advance(11.0)
                await closing

            self.run(close())
        self.note_gone(each)
        self.note_evictions(has_time_passed=how == "server")

    # Messages.

    def next_message(self, size: int) -> Message:
        self.number += 1
        return Message(type="n", data=[self.number, "x" * size])

    @rule(channel=channels, size=st.integers(0, 600))
    def publish(self, channel: str, size: int) -> None:
        self.hub.publish(channel, self.next_message(size))
        for each in self.everyone:
            if channel in each.subscriptions:
                each.expected.append(self.number)

    @rule(size=st.integers(0, 600))
    def broadcast(self, size: int) -> None:
        self.hub.broadcast(self.next_message(size))
        for each in self.everyone:
            if each.is_here:
                each.expected.append(self.number)

    @rule(each=clients, size=st.integers(0, 600))
    def send(self, each: Modelled, size: int) -> None:
        # Messages that were published before can overflow the outbox now.
        was_queued = each.connection.send(self.next_message(size))
        self.note_evictions()
        if was_queued:
            each.expected.append(self.number)
        else:
            assert not each.is_here

    @rule(turns=st.integers(1, 4))
    def let_the_loop_turn(self, turns: int) -> None:
        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run(turn())
        self.note_evictions()

    # Invariants.

    @precondition(lambda self: self.everyone)
    @rule()
    def check(self) -> None:
        self.run(self.wait_for_rest())
        self.check_all()

    async def wait_for_rest(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)
        self.note_evictions()

    def check_all(self) -> None:
        for each in self.everyone:
            received, expected = each.received, each.expected
            dropped = each.connection.dropped_messages
            if not each.is_here or each.is_stalled:
                if self.overflow == "close":
                    assert received == expected[: len(received)]
            elif self.overflow == "close":
                assert received == expected
            assert dropped == 0 or self.overflow != "close"
            if each.is_here and not each.is_stalled:
                # In order, without duplicates, and missing messages were counted.
                assert received == sorted(set(received))
                assert set(received) <= set(expected)
                assert len(expected) - len(received) <= dropped

    @invariant()
    def the_hub_has_the_connections_and_subscriptions_of_the_model(self) -> None:
        if not hasattr(self, "hub"):
            return
        here = [each for each in self.everyone if each.is_here]
        assert set(self.hub.connections) == {each.connection for each in here}
        for channel in CHANNELS:
            expected = sum(channel in each.subscriptions for each in here)
            assert self.hub.subscriber_count(channel) == expected
        for each in here:
            assert each.connection.subscriptions == tuple(sorted(each.subscriptions))

    def note_gone(self, each: Modelled) -> None:
        each.is_here = False
        each.subscriptions.clear()

    def note_evictions(self, has_time_passed: bool = False) -> None:
        """Check that only stalled clients were evicted, by the policy or by the write timeout."""
        present = set(self.hub.connections)
        for each in self.everyone:
            if each.is_here and each.connection not in present:
                assert each.is_stalled
                assert self.overflow == "close" or has_time_passed
                self.note_gone(each)


HubMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestHub = HubMachine.TestCase
