"""The bridge contract: tests that every bridge must pass."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from wshub_core.bridge.protocol import Bridge
from wshub_core.bridge.relay import LINGER_SECONDS
from wshub_core.bridge.state import BridgeState
from wshub_core.hub import Hub
from wshub_core.testing.client import MemoryClient, connect
from wshub_core.values.auth import AuthResult
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import BridgeAttachedError, MessageTooLargeError
from wshub_core.values.http import Request
from wshub_core.values.messages import Message, MessageType


class BridgeContract:
    """Tests of a bridge, for pytest with ``asyncio_mode = "auto"``.

    Derive a class whose name begins with ``Test``, and define ``open_bridge``::

        class TestMyBridge(BridgeContract):
            def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
                return MyBridge(hub, "nats://localhost")

    Every test opens bridges for its own hubs. All bridges that one test opens must be joined.
    """

    can_subscribe_all = True
    """Whether the bridge supports `wshub_core.Bridge.subscribe_all`."""

    def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
        """Return a bridge for a hub, attached inside ``async with`` and detached at its end."""
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

    async def test_only_subscribers_of_the_exact_channel_receive_a_message(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await subscribe(there, "events:user:1")
            other = await subscribe(there, "events:user:2")
            here.publish("events:user:1", Message(type=MessageType.EVENT, data=1))
            assert await receive(client) == 1
            await assert_nothing_more([here, there], [client, other])

    async def test_clients_of_all_hubs_receive_the_same_message_with_the_same_timestamp(
        self,
    ) -> None:
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

    async def test_a_broadcast_keeps_the_channel_field_of_its_message(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await connect(there)
            here.broadcast(Message(type=MessageType.EVENT, channel="news", data=1))
            here.broadcast(Message(type=MessageType.EVENT, data=2))
            assert [(await client.receive()).channel for _ in range(2)] == ["news", ""]

    async def test_local_only_messages_do_not_reach_other_hubs(self) -> None:
        async with self.open_hubs(2) as (here, there):
            near, far = await subscribe(here, "news"), await subscribe(there, "news")
            here.publish("news", Message(type=MessageType.EVENT, data=1), local_only=True)
            here.broadcast(Message(type=MessageType.EVENT, data=2), local_only=True)
            assert [await receive(near) for _ in range(2)] == [1, 2]
            await assert_nothing_more([here, there], [near, far])

    async def test_the_messages_of_one_publisher_arrive_in_order(self) -> None:
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

    async def test_a_hub_receives_no_messages_of_channels_without_subscribers(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await subscribe(there, "wanted")
            before = there.stats().messages
            for _ in range(10):
                here.publish("unwanted", Message(type=MessageType.EVENT))
            here.publish("wanted", Message(type=MessageType.EVENT, data="end"))
            assert await receive(client) == "end"
            assert there.stats().messages == before + 1

    async def test_a_client_misses_no_message_after_its_subscription_is_confirmed(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await connect(there)
            for n in range(30):
                client.send(b'{"type":"subscribe","id":%d,"channel":"c%d"}' % (n, n))
                assert (await client.receive()).type == MessageType.SUBSCRIBED
                here.publish(f"c{n}", Message(type=MessageType.EVENT, data=n))
                assert await receive(client) == n

    async def test_hub_subscribe_returns_when_messages_of_other_hubs_arrive(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await connect(there)
            for n in range(30):
                await there.subscribe(there.connections[0], f"c{n}")
                here.publish(f"c{n}", Message(type=MessageType.EVENT, data=n))
                assert await receive(client) == n

    async def test_a_client_that_resubscribes_misses_no_message_after_the_confirmation(
        self,
    ) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await connect(there)
            for n in range(20):
                await there.subscribe(there.connections[0], "news")
                here.publish("news", Message(type=MessageType.EVENT, data=n))
                assert await receive(client) == n
                there.unsubscribe(there.connections[0], "news")

    async def test_a_channel_is_unsubscribed_some_time_after_its_last_subscriber_has_left(
        self,
    ) -> None:
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

    async def test_the_bridge_delivers_channels_that_were_subscribed_before_it_was_attached(
        self,
    ) -> None:
        async with Hub() as here, Hub() as there:
            client = await subscribe(there, "news")
            async with self.open_bridge(here), self.open_bridge(there):
                # This confirmation of the same channel comes no sooner than the first one.
                await there.subscribe(there.connections[0], "news")
                here.publish("news", Message(type=MessageType.EVENT, data=1))
                assert await receive(client) == 1

    async def test_a_hub_without_its_bridge_still_serves_its_own_clients(self) -> None:
        async with Hub() as here, Hub() as there, self.open_bridge(there):
            near, far = await subscribe(here, "news"), await subscribe(there, "news")
            async with self.open_bridge(here):
                here.publish("news", Message(type=MessageType.EVENT, data=1))
                assert await receive(near) == await receive(far) == 1
            here.publish("news", Message(type=MessageType.EVENT, data=2))
            assert await receive(near) == 2
            await assert_nothing_more([there], [far])

    async def test_messages_that_were_published_before_a_bridge_is_detached_arrive(self) -> None:
        async with Hub() as here, Hub() as there, self.open_bridge(there):
            client = await subscribe(there, "news")
            async with self.open_bridge(here):
                for n in range(500):
                    here.publish("news", Message(type=MessageType.EVENT, data=n))
            assert [await receive(client) for _ in range(500)] == list(range(500))

    async def test_a_message_that_is_too_large_for_the_bridge_is_refused_before_any_delivery(
        self,
    ) -> None:
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

    async def test_messages_that_clients_publish_reach_every_hub(self) -> None:
        async with self.open_hubs(2, publish_authorizer=lambda *_: True) as (here, there):
            near, far = await connect(here), await subscribe(there, "news")
            near.send(Message(type=MessageType.EVENT, channel="news", data=1))
            assert await receive(far) == 1

    async def test_a_hub_that_is_subscribed_to_all_channels_receives_each_message_once(
        self,
    ) -> None:
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
            # Messages still arrive after the channel alone was unsubscribed.
            there.unsubscribe(there.connections[0], "wanted")
            await asyncio.sleep(LINGER_SECONDS * 1.5)
            here.publish("wanted", Message(type=MessageType.EVENT, data="late"))
            here.broadcast(Message(type=MessageType.EVENT, data="end"))
            while await receive(client) != "end":
                pass
        for channel in ("unwanted", "wanted"):
            data = [each for name, each in heard if name == channel]
            assert data == [*range(10), *(["late"] if channel == "wanted" else [])], channel

    async def test_operations_on_users_reach_all_their_connections(self) -> None:
        async with self.open_hubs(3, authenticator=_authenticate) as hubs:
            clients = [await connect(hub, query="ada") for hub in hubs]
            other = await connect(hubs[1], query="bob")
            hubs[0].send_to_user("ada", Message(type=MessageType.EVENT, data="hello"))
            await hubs[0].subscribe_user("ada", "news")
            # The answer of another hub shows that it has carried out the operations before.
            hubs[0].send_to_user("ada", Message(type=MessageType.EVENT, data="subscribed"))
            for hub, client in zip(hubs, clients, strict=True):
                assert [await receive(client) for _ in range(2)] == ["hello", "subscribed"]
                assert hub.connections_of("ada")[0].subscriptions == ("news",)
            hubs[2].unsubscribe_user("ada", "news")
            hubs[2].send_to_user("ada", Message(type=MessageType.EVENT, data="unsubscribed"))
            for hub, client in zip(hubs, clients, strict=True):
                assert await receive(client) == "unsubscribed"
                assert hub.channels == ()
            await assert_nothing_more(hubs, [other])
            hubs[1].disconnect_user("ada", 4001, "logged out")
            for client in clients:
                assert await client.wait_closed() == 4001
            await other.sync()

    async def test_a_second_bridge_cannot_be_attached(self) -> None:
        async with Hub() as hub, self.open_bridge(hub):
            try:
                async with self.open_bridge(hub):
                    raise AssertionError("a second bridge was attached")
            except BridgeAttachedError:
                pass

    async def test_an_attached_bridge_reports_that_it_is_up(self) -> None:
        async with Hub() as hub, self.open_bridge(hub) as bridge:
            assert bridge.state == BridgeState.UP
            await bridge.drain()


def _authenticate(request: Request) -> AuthResult:
    return AuthResult(True, request.query)


async def subscribe(hub: Hub, *channels: str) -> MemoryClient:
    """Connect a client and subscribe it; every later message reaches the client."""
    client = await connect(hub)
    for channel in channels:
        client.subscribe(channel)
    await client.sync()
    return client


async def receive(client: MemoryClient) -> Any:
    """Wait for the next message and return its data."""
    return (await client.receive()).data


async def assert_nothing_more(hubs: Sequence[Hub], clients: Sequence[MemoryClient]) -> None:
    """Check that the next messages of all clients are markers that every hub broadcasts now."""
    markers = [f"marker of {id(hub)}" for hub in hubs]
    for hub, marker in zip(hubs, markers, strict=True):
        hub.broadcast(Message(type=MessageType.EVENT, data=marker))
    for client in clients:
        received = [await receive(client) for _ in hubs]
        assert sorted(received) == sorted(markers), received
