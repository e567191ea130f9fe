"""Hubs with an in-memory bridge, and a hub with a bridge in an outage."""

import asyncio
from asyncio import Future
from contextlib import AbstractAsyncContextManager

import pytest

from wshub_core import (
    Bridge,
    BridgeState,
    Hub,
    Message,
    MessageType,
)
from wshub_core.testing import (
    BridgeContract,
    ManualClock,
    MemoryBridge,
    MemoryClient,
    MemoryExchange,
    connect,
)


class TestMemoryBridge(BridgeContract):
    def setup_method(self) -> None:
        self.exchange = MemoryExchange()

    def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
        return OverheadBridge(hub, self.exchange)


class OverheadBridge(MemoryBridge):
    overhead_bytes = 100


class ControlledBridge:
    """A bridge whose broker answers when the test decides."""

    overhead_bytes = 0

    def __init__(self, state: BridgeState) -> None:
        self.state = state
        self.subscribed: dict[str, Future[None]] = {}
        self.unsubscribed: list[str] = []
        self.forwarded: list[tuple[str, bytes]] = []

    def forward(self, channel: str, payload: bytes) -> None:
        self.forwarded.append((channel, payload))

    def subscribe(self, channel: str) -> Future[None] | None:
        future = self.subscribed.setdefault(channel, asyncio.get_running_loop().create_future())
        return None if future.done() else future

    def subscribe_all(self) -> Future[None] | None:
        raise NotImplementedError

    def unsubscribe(self, channel: str) -> None:
        self.unsubscribed.append(channel)

    async def drain(self) -> None:
        pass


def ask(client: MemoryClient, frame_id: int, channel: str) -> None:
    client.send(b'{"type":"subscribe","id":%d,"channel":"%b"}' % (frame_id, channel.encode()))


async def receive_types(client: MemoryClient, count: int) -> list[str]:
    return [(await client.receive()).type for _ in range(count)]


async def test_a_subscription_is_confirmed_when_the_bridge_has_subscribed() -> None:
    bridge = ControlledBridge(BridgeState.UP)
    async with Hub() as hub:
        hub.bridge_port.attach(bridge)
        client = await connect(hub)
        ask(client, 1, "news")
        client.send(Message(type=MessageType.PING))
        await asyncio.sleep(0.05)
        assert not client.messages
        bridge.subscribed["news"].set_result(None)
        assert await receive_types(client, 2) == ["subscribed", "pong"]
        # Further subscriptions to the channel need not wait.
        ask(client, 2, "news")
        assert await receive_types(client, 1) == ["subscribed"]


async def test_other_clients_do_not_wait_for_the_bridge() -> None:
    bridge = ControlledBridge(BridgeState.UP)
    async with Hub() as hub:
        hub.bridge_port.attach(bridge)
        waiting, other = await connect(hub), await connect(hub)
        ask(waiting, 1, "news")
        await other.sync()
        hub.publish("news", Message(type=MessageType.EVENT, data="local"))
        # Messages that this hub publishes reach its own clients at once.
        assert (await waiting.receive()).data == "local"
        bridge.subscribed["news"].set_result(None)
        assert await receive_types(waiting, 1) == ["subscribed"]


@pytest.mark.parametrize("state", [BridgeState.DEGRADED, BridgeState.DOWN])
async def test_in_an_outage_clients_do_not_wait_and_the_confirmation_comes_later(
    state: BridgeState,
) -> None:
    bridge = ControlledBridge(state)
    async with Hub() as hub:
        hub.bridge_port.attach(bridge)
        client, gone = await connect(hub), await connect(hub)
        ask(client, 1, "news")
        ask(client, 2, "news")
        ask(client, 3, "left")
        ask(gone, 4, "news")
        client.unsubscribe("left")
        await client.sync()
        await gone.sync()
        assert not client.messages
        gone.close()
        hub.publish("news", Message(type=MessageType.EVENT, data="local"))
        assert (await client.receive()).data == "local"
        bridge.subscribed["news"].set_result(None)
        bridge.subscribed["left"].set_result(None)
        reply = await client.receive()
        assert (reply.type, reply.channel) == ("subscribed", "news")
        await client.sync()
        # One confirmation for each frame is enough, and a withdrawn subscription gets none.
        assert not client.messages


async def test_a_client_waits_at_most_a_second_for_a_bridge() -> None:
    bridge = ControlledBridge(BridgeState.UP)
    async with Hub() as hub:
        hub.bridge_port.attach(bridge)
        client = await connect(hub)
        client.subscribe("news")
        await client.sync()
        await hub.subscribe(hub.connections[0], "more")
        assert hub.connections[0].subscriptions == ("more", "news")


async def test_a_channel_without_subscribers_leaves_the_bridge_after_a_second() -> None:
    bridge = ControlledBridge(BridgeState.DOWN)
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        hub.bridge_port.attach(bridge)
        client = await connect(hub)
        client.subscribe("a")
        client.subscribe("b")
        await client.sync()
        client.unsubscribe("a")
        client.unsubscribe("b")
        clock.advance(0.9)
        assert bridge.unsubscribed == []
        client.subscribe("b")
        await client.sync()
        clock.advance(0.2)
        assert bridge.unsubscribed == ["a"]
        client.vanish()
        clock.advance(1)
        assert bridge.unsubscribed == ["a", "b"]
        hub.bridge_port.detach()
        hub.bridge_port.detach()
