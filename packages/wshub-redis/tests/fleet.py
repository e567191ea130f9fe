"""Three hubs under load, and a record of the messages that each client has received."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from wshub_core import BridgeState, Hub, Message, MessageType
from wshub_core.testing import MemoryClient, connect
from wshub_redis import RedisBridge

CHANNEL = "news"

QUICK = {"timeout": 1.0, "probe_interval": 0.5}
"""Settings with which outages are noticed quickly."""

UNDER_WAY_SECONDS = 1.0
"""Time in seconds for which a message may be under way on a busy machine."""


@dataclass
class Member:
    """One hub of the fleet.

    Attributes:
        published: When each of its messages was published; a message's number is its index.
        changes: When its bridge's state changed, and to what.
    """

    hub: Hub
    bridge: RedisBridge
    client: MemoryClient
    published: list[float] = field(default_factory=list)
    changes: list[tuple[float, BridgeState]] = field(default_factory=list)

    def publish(self, name: int) -> None:
        number = len(self.published)
        self.published.append(now())
        self.hub.publish(CHANNEL, Message(type=MessageType.EVENT, data=[name, number]))


class Fleet:
    """Hubs that publish all the time, with a subscribed client each."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Publish on all hubs while the block runs, and for a moment before and after."""
        is_over = asyncio.Event()

        async def publish(name: int) -> None:
            while not is_over.is_set():
                self.members[name].publish(name)
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            for name in range(len(self.members)):
                group.create_task(publish(name))
            await asyncio.sleep(0.2)
            yield
            await asyncio.sleep(0.2)
            is_over.set()

    async def wait_state(self, state: BridgeState) -> None:
        """Wait until all bridges are in a state."""
        await wait_until(lambda: all(each.bridge.state == state for each in self.members))

    async def wait_seen(self, state: BridgeState) -> None:
        """Wait until every bridge has been in a state, which may be over already."""
        await wait_until(
            lambda: all(any(state == seen for _, seen in each.changes) for each in self.members)
        )

    async def wait_reconnects(self, number: int) -> None:
        """Wait until every bridge has lost a connection that many times."""
        await wait_until(
            lambda: all(each.bridge.stats().reconnects >= number for each in self.members)
        )

    async def wait_recovered(self) -> float:
        """Wait until all bridges are up; return the time."""
        await self.wait_state(BridgeState.UP)
        return now()

    async def collect(self) -> list[list[list[int]]]:
        """Return the numbers that each client has received from each hub in the end."""
        for name, member in enumerate(self.members):
            await member.bridge.publish(CHANNEL, Message(type="end", data=[name, 0]))
        received: list[list[list[int]]] = []
        for member in self.members:
            numbers: list[list[int]] = [[] for _ in self.members]
            ends = 0
            while ends < len(self.members):
                message = await member.client.receive()
                name, number = message.data
                if message.type == "end":
                    ends += 1
                else:
                    numbers[name].append(number)
            received.append(numbers)
        return received

    async def account(self) -> list[list[set[int]]]:
        """Check order and uniqueness; return the numbers that each client has missed."""
        received = await self.collect()
        missing: list[list[set[int]]] = []
        for receiver, numbers in enumerate(received):
            missing.append([])
            for sender, member in enumerate(self.members):
                got = numbers[sender]
                # No message arrives twice or out of order.
                assert all(a < b for a, b in pairwise(got)), (receiver, sender)
                missing[-1].append(set(range(len(member.published))) - set(got))
            # Every message reaches the clients of its own hub.
            assert not missing[receiver][receiver]
        return missing


@asynccontextmanager
async def run_fleet(url: Callable[[int], Any], **settings: Any) -> AsyncIterator[Fleet]:
    """Run three hubs, each with a bridge and a client."""
    async with AsyncExitStack() as stack:
        members: list[Member] = []
        for name in range(3):
            hub = await stack.enter_async_context(Hub())
            changes: list[tuple[float, BridgeState]] = []
            bridge = RedisBridge(
                hub, url(name), on_state_change=partial(note_change, changes), **QUICK | settings
            )
            await stack.enter_async_context(bridge)
            client = await connect(hub)
            client.subscribe(CHANNEL)
            await client.sync()
            members.append(Member(hub, bridge, client, changes=changes))
        yield Fleet(members)


def note_change(changes: list[tuple[float, BridgeState]], bridge: RedisBridge) -> None:
    changes.append((now(), bridge.state))


def now() -> float:
    return asyncio.get_running_loop().time()


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - no event is set
            await asyncio.sleep(0.01)


def assert_within(fleet: Fleet, missing: list[list[set[int]]], begin: float, end: float) -> None:
    """Check that all missed messages were published in a span of time, or were under way then."""
    for numbers in missing:
        for sender, lost in enumerate(numbers):
            times = [fleet.members[sender].published[number] for number in lost]
            assert all(begin - UNDER_WAY_SECONDS <= time <= end for time in times), (
                [time - begin for time in times if not begin <= time <= end],
                end - begin,
            )
