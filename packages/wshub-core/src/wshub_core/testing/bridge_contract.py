"""The tests that every bridge passes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from wshub_core.bridge.protocol import Bridge
from wshub_core.bridge.relay import LINGER_SECONDS
from wshub_core.bridge.state import BridgeState
from wshub_core.hub import Hub
from wshub_core.testing.client import MemoryClient, connect
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import BridgeAttachedError, MessageTooLargeError
from wshub_core.values.messages import Message, MessageType


class BridgeContract:
    """What holds for every bridge, as tests for pytest with ``asyncio_mode = "auto"``.

    Derive a class whose name begins with ``Test``, and say how a bridge is made::

        class TestMyBridge(BridgeContract):
            def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
                return MyBridge(hub, "nats://localhost")

    Every test opens bridges for hubs of its own; all of one test must meet.
    """

    can_subscribe_all = True
    """Whether the bridge can carry every channel; see `wshub_core.Bridge.subscribe_all`."""

    def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
        """Return a bridge for a hub; entered, it is attached, and left, it is detached."""
        raise NotImplementedError

    @asynccontextmanager
    async def open_hubs(self, count: int, **settings: Any) -> AsyncIterator[list[Hub]]:
        """Open hubs that are joined by bridges."""
        async with AsyncExitStack() as stack:
            hubs = [
                await stack.enter_async_context(Hub(HubConfig(**settings))) for _ in range(count)
            ]
            for hub in hubs:
                await stack.enter_async_context(self.open_bridge(hub))
            yield hubs

    async def test_a_message_reaches_the_subscribers_of_every_hub_once(self) -> None:
        async with self.open_hubs(3) as hubs:
            clients = [await subscribe(hub, "news") for hub in hubs]
            hubs[0].publish("news", Message(type=MessageType.EVENT, data="first"))
            hubs[0].publish("news", Message(type=MessageType.EVENT, data="last"))
            for client in clients:
                assert [await receive(client) for _ in range(2)] == ["first", "last"]
            await assert_nothing_more(hubs, clients)

    async def test_a_broadcast_reaches_every_client_of_every_hub_once(self) -> None:
        async with self.open_hubs(3) as hubs:
            clients = [await connect(hub) for hub in hubs]
            hubs[1].send_event("deploy", {"n": 1})
            for client in clients:
                assert await receive(client) == {"data": {"n": 1}, "event": "deploy"}
            await assert_nothing_more(hubs, clients)

    async def test_only_subscribers_of_exactly_that_channel_get_it(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await subscribe(there, "events:user:1")
            other = await subscribe(there, "events:user:2")
            here.publish("events:user:1", Message(type=MessageType.EVENT, data=1))
            assert await receive(client) == 1
            await assert_nothing_more([here, there], [client, other])

    async def test_everyone_gets_the_same_message_with_the_same_timestamp(self) -> None:
        data = {"big": 2**53 + 1, "float": 1.5, "text": "süß \u2028 <b>\n", "none": None, "": []}
        async with self.open_hubs(2) as (here, there):
            near, far = await subscribe(here, "process:b-1"), await subscribe(there, "process:b-1")
            message = Message(type="custom", process_id="b-1", data=data)
            here.publish("process:b-1", message)
            received = await far.receive()
            assert received == await near.receive()
            assert (received.type, received.channel) == ("custom", "process:b-1")
            assert (received.process_id, received.data) == ("b-1", data)
            assert received.timestamp is not None

    async def test_a_broadcast_keeps_the_channel_it_names(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await connect(there)
            here.broadcast(Message(type=MessageType.EVENT, channel="news", data=1))
            here.broadcast(Message(type=MessageType.EVENT, data=2))
            assert [(await client.receive()).channel for _ in range(2)] == ["news", ""]

    async def test_what_is_local_stays(self) -> None:
        async with self.open_hubs(2) as (here, there):
            near, far = await subscribe(here, "news"), await subscribe(there, "news")
            here.publish("news", Message(type=MessageType.EVENT, data=1), local_only=True)
            here.broadcast(Message(type=MessageType.EVENT, data=2), local_only=True)
            assert [await receive(near) for _ in range(2)] == [1, 2]
            await assert_nothing_more([here, there], [near, far])

    async def test_the_order_of_each_publisher_holds(self) -> None:
        channels = [f"c{n}" for n in range(5)]
        async with self.open_hubs(3) as hubs:
            clients = [await subscribe(hub, *channels) for hub in hubs]

            async def publish(name: int) -> None:
                for n in range(200):
                    channel = channels[n % 5]
                    hubs[name].publish(channel, Message(type=MessageType.EVENT, data=[name, n]))
                    if n % 7 == 0:
                        await hubs[name].drain()

            await asyncio.gather(publish(0), publish(1))
            for client in clients:
                received = [await client.receive() for _ in range(400)]
                for name in range(2):
                    for channel in channels:
                        numbers = [
                            each.data[1]
                            for each in received
                            if each.channel == channel and each.data[0] == name
                        ]
                        assert numbers == sorted(numbers)
                        assert len(numbers) == 40

    async def test_nothing_comes_for_a_channel_that_nobody_listens_to(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await subscribe(there, "wanted")
            before = there.stats().messages
            for _ in range(10):
                here.publish("unwanted", Message(type=MessageType.EVENT))
            here.publish("wanted", Message(type=MessageType.EVENT, data="end"))
            assert await receive(client) == "end"
            assert there.stats().messages == before + 1

    async def test_after_a_confirmation_nothing_is_missed(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await connect(there)
            for n in range(30):
                client.send(b'{"type":"subscribe","id":%d,"channel":"c%d"}' % (n, n))
                assert (await client.receive()).type == MessageType.SUBSCRIBED
                here.publish(f"c{n}", Message(type=MessageType.EVENT, data=n))
                assert await receive(client) == n

    async def test_the_hubs_own_subscribe_is_done_when_messages_arrive(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await connect(there)
            for n in range(30):
                await there.subscribe(there.connections[0], f"c{n}")
                here.publish(f"c{n}", Message(type=MessageType.EVENT, data=n))
                assert await receive(client) == n

    async def test_who_leaves_and_comes_back_misses_nothing_after_the_confirmation(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await connect(there)
            for n in range(20):
                await there.subscribe(there.connections[0], "news")
                here.publish("news", Message(type=MessageType.EVENT, data=n))
                assert await receive(client) == n
                there.unsubscribe(there.connections[0], "news")

    async def test_a_channel_is_let_go_a_while_after_its_last_subscriber_has_left(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await subscribe(there, "news", "end")
            there.unsubscribe(there.connections[0], "news")
            await asyncio.sleep(LINGER_SECONDS * 1.5)
            before = there.stats().messages
            here.publish("news", Message(type=MessageType.EVENT))
            here.publish("end", Message(type=MessageType.EVENT, data="end"))
            assert await receive(client) == "end"
            assert there.stats().messages == before + 1
            await there.subscribe(there.connections[0], "news")
            here.publish("news", Message(type=MessageType.EVENT, data="again"))
            assert await receive(client) == "again"

    async def test_subscriptions_that_were_there_before_the_bridge_count(self) -> None:
        async with Hub() as here, Hub() as there:
            client = await subscribe(there, "news")
            async with self.open_bridge(here), self.open_bridge(there):
                # Another confirmation of the same channel comes no sooner.
                await there.subscribe(there.connections[0], "news")
                here.publish("news", Message(type=MessageType.EVENT, data=1))
                assert await receive(client) == 1

    async def test_without_its_bridge_a_hub_goes_on_alone(self) -> None:
        async with Hub() as here, Hub() as there, self.open_bridge(there):
            near, far = await subscribe(here, "news"), await subscribe(there, "news")
            async with self.open_bridge(here):
                here.publish("news", Message(type=MessageType.EVENT, data=1))
                assert await receive(near) == await receive(far) == 1
            here.publish("news", Message(type=MessageType.EVENT, data=2))
            assert await receive(near) == 2
            await assert_nothing_more([there], [far])

    async def test_what_was_published_before_a_bridge_is_left_arrives(self) -> None:
        async with Hub() as here, Hub() as there, self.open_bridge(there):
            client = await subscribe(there, "news")
            async with self.open_bridge(here):
                for n in range(500):
                    here.publish("news", Message(type=MessageType.EVENT, data=n))
            assert [await receive(client) for _ in range(500)] == list(range(500))

    async def test_what_would_not_fit_is_refused_before_anybody_gets_it(self) -> None:
        async with self.open_hubs(2, max_message_bytes=2_000) as (here, there):
            near, far = await subscribe(here, "news"), await subscribe(there, "news")
            accepted = None
            for size in range(1_700, 2_000):
                try:
                    here.publish("news", Message(type=MessageType.EVENT, data="x" * size))
                except MessageTooLargeError:
                    break
                accepted = size
            assert accepted is not None
            assert accepted < 1_999
            for client in (near, far):
                for size in range(1_700, accepted + 1):
                    assert await receive(client) == "x" * size
            await assert_nothing_more([here, there], [near, far])

    async def test_what_clients_publish_reaches_every_hub(self) -> None:
        async with self.open_hubs(2, publish_authorizer=lambda *_: True) as (here, there):
            near, far = await connect(here), await subscribe(there, "news")
            near.send(Message(type=MessageType.EVENT, channel="news", data=1))
            assert await receive(far) == 1

    async def test_a_hub_that_wants_all_channels_gets_each_message_once(self) -> None:
        if not self.can_subscribe_all:
            return
        heard: list[tuple[str, Any]] = []
        async with self.open_hubs(2) as (here, there):
            there.add_publish_listener(lambda channel, each: heard.append((channel, each.data)))
            await there.subscribe_all()
            client = await subscribe(there, "wanted")
            for n in range(10):
                here.publish("unwanted", Message(type=MessageType.EVENT, data=n))
                here.publish("wanted", Message(type=MessageType.EVENT, data=n))
            # A channel that is let go is still heard.
            there.unsubscribe(there.connections[0], "wanted")
            await asyncio.sleep(LINGER_SECONDS * 1.5)
            here.publish("wanted", Message(type=MessageType.EVENT, data="late"))
            here.broadcast(Message(type=MessageType.EVENT, data="end"))
            while await receive(client) != "end":
                pass
        for channel in ("unwanted", "wanted"):
            data = [each for name, each in heard if name == channel]
            assert data == [*range(10), *(["late"] if channel == "wanted" else [])], channel

    async def test_a_hub_has_one_bridge(self) -> None:
        async with Hub() as hub, self.open_bridge(hub):
            try:
                async with self.open_bridge(hub):
                    raise AssertionError("a second bridge was attached")
            except BridgeAttachedError:
                pass

    async def test_it_says_that_it_is_up(self) -> None:
        async with Hub() as hub, self.open_bridge(hub) as bridge:
            assert bridge.state == BridgeState.UP
            await bridge.drain()


async def subscribe(hub: Hub, *channels: str) -> MemoryClient:
    """Connect a client, and subscribe it; every later message will reach it."""
    client = await connect(hub)
    for channel in channels:
        client.subscribe(channel)
    await client.sync()
    return client


async def receive(client: MemoryClient) -> Any:
    """Return the data of the next message."""
    return (await client.receive()).data


async def assert_nothing_more(hubs: Sequence[Hub], clients: Sequence[MemoryClient]) -> None:
    """Check that clients have got nothing by when something later has come from every hub."""
    markers = [f"marker of {id(hub)}" for hub in hubs]
    for hub, marker in zip(hubs, markers, strict=True):
        hub.broadcast(Message(type=MessageType.EVENT, data=marker))
    for client in clients:
        received = [await receive(client) for _ in hubs]
        assert sorted(received) == sorted(markers), received
