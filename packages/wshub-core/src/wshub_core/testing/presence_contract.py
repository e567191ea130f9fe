"""The presence contract: tests that every store of a presence must pass, seen from its hubs."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from wshub_core.bridge.protocol import Bridge
from wshub_core.hub import Hub
from wshub_core.testing.client import MemoryClient, connect
from wshub_core.testing.presence_clients import (
    CHANNEL,
    describe,
    make_hub,
    observe,
    subscribe,
    wait_count,
)
from wshub_core.values.presence import PresenceSettings

_DELAY = 0.5
"""The ``leave_delay`` of the tests, in seconds."""


class PresenceContract:
    """Tests of the presence that a bridge shares, for pytest with ``asyncio_mode = "auto"``.

    Derive a class whose name begins with ``Test``, and define ``open_bridge`` as for
    `BridgeContract`. The bridge passes its store to `wshub_core.BridgePort.attach`.
    """

    def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
        """Return a bridge for a hub, attached inside ``async with`` and detached at its end."""
        raise NotImplementedError

    @asynccontextmanager
    async def open_hubs(self, count: int, **settings: Any) -> AsyncIterator[list[Hub]]:
        """Open hubs with presence that are joined by bridges, for users named in the query."""
        async with AsyncExitStack() as stack:
            hubs = [await stack.enter_async_context(make_hub(**settings)) for _ in range(count)]
            for hub in hubs:
                await stack.enter_async_context(self.open_bridge(hub))
            yield hubs

    # The members.

    async def test_every_hub_knows_the_members_of_all_hubs(self) -> None:
        async with self.open_hubs(3, presence_info=describe) as hubs:
            for number, hub in enumerate(hubs):
                await subscribe(hub, f"user-{number}")
            for hub in hubs:
                await wait_count(hub, 3, 3)
                presence = await hub.presence(CHANNEL)
                assert {each.user_id for each in presence.members} == {"user-0", "user-1", "user-2"}
                assert {each.info["name"] for each in presence.members} == {
                    "USER-0",
                    "USER-1",
                    "USER-2",
                }
                assert len({each.connection_id for each in presence.members}) == 3
                assert not presence.truncated

    async def test_a_user_counts_once_and_each_of_its_connections(self) -> None:
        async with self.open_hubs(2) as (here, there):
            for hub in (here, here, there):
                await subscribe(hub, "ada")
            await subscribe(there, "bob")
            await wait_count(here, 4, 2)
            await wait_count(there, 4, 2)

    async def test_connections_without_a_user_count_one_by_one(self) -> None:
        async with self.open_hubs(2, authenticator=None) as (here, there):
            for hub in (here, here, there):
                await subscribe(hub)
            await wait_count(here, 3, 3)
            await wait_count(there, 3, 3)

    async def test_members_go_when_they_unsubscribe_close_or_vanish(self) -> None:
        async with self.open_hubs(2) as (here, there):
            leaver, closer, vanisher, stayer = [
                await subscribe(here, name) for name in ("a", "b", "c", "d")
            ]
            await wait_count(there, 4, 4)
            leaver.unsubscribe(CHANNEL)
            await wait_count(there, 3, 3)
            closer.close()
            vanisher.vanish()
            await wait_count(there, 1, 1)
            assert [each.user_id for each in (await there.presence(CHANNEL)).members] == ["d"]
            await stayer.sync()

    async def test_a_hub_knows_its_own_changes_at_once(self) -> None:
        async with self.open_hubs(2) as (here, _):
            for number in range(10):
                client = await subscribe(here, f"user-{number}")
                assert (await here.presence_count(CHANNEL)).connections == 1
                client.unsubscribe(CHANNEL)
                assert (await here.presence_count(CHANNEL)).connections == 0

    async def test_channels_have_members_of_their_own(self) -> None:
        async with self.open_hubs(2) as (here, there):
            await subscribe(here, "ada", "room:2", "news")
            await subscribe(there, "bob")
            await wait_count(here, 1, 1)
            assert [each.user_id for each in (await here.presence("room:2")).members] == ["ada"]
            assert (await here.presence("room:3")).members == ()

    async def test_a_list_of_members_is_limited_and_the_numbers_are_exact(self) -> None:
        async with self.open_hubs(2) as (here, there):
            for number in range(10):
                await subscribe((here, there)[number % 2], f"user-{number}")
            await wait_count(here, 10, 10)
            presence = await here.presence(CHANNEL, limit=4)
            assert (presence.connections, presence.users) == (10, 10)
            assert len({each.user_id for each in presence.members}) == 4
            assert presence.truncated
            assert len((await here.presence(CHANNEL, limit=10)).members) == 10

    async def test_a_connection_that_comes_and_goes_quickly_leaves_nothing(self) -> None:
        async with self.open_hubs(2) as (here, there):
            for number in range(20):
                await connect(here, query=f"user=user-{number}")
            connections = here.connections
            chooser = random.Random(7)
            for _ in range(20):
                for connection in connections:
                    # Without a wait, so that a change meets an update that is under way.
                    if chooser.random() < 0.5:
                        here.subscribe_nowait(connection, CHANNEL)
                    else:
                        here.unsubscribe(connection, CHANNEL)
                await asyncio.sleep(chooser.random() * 0.03)
            for connection in connections:
                here.unsubscribe(connection, CHANNEL)
            await wait_count(there, 0, 0)
            await wait_count(here, 0, 0)

    async def test_many_connections_come_and_go_at_once(self) -> None:
        async with self.open_hubs(2, presence_info=describe) as (here, there):
            clients = [await connect(here, query=f"user=user-{n % 500}") for n in range(1_200)]
            for client in clients:
                client.subscribe(CHANNEL)
            await wait_count(there, 1_200, 500)
            assert (await there.presence(CHANNEL)).truncated
            for client in clients:
                client.close()
            await wait_count(there, 0, 0)

    # The bridge.

    async def test_members_that_were_there_before_the_bridge_are_known(self) -> None:
        async with make_hub() as here, make_hub() as there:
            await subscribe(here, "ada")
            await subscribe(there, "bob")
            await wait_count(here, 1, 1)
            async with self.open_bridge(here), self.open_bridge(there):
                await wait_count(here, 2, 2)
                await wait_count(there, 2, 2)

    async def test_the_members_of_a_hub_go_with_its_bridge(self) -> None:
        async with make_hub() as here, make_hub() as there, self.open_bridge(there):
            await subscribe(there, "bob")
            async with self.open_bridge(here):
                await subscribe(here, "ada")
                await wait_count(there, 2, 2)
            assert (await there.presence_count(CHANNEL)).connections == 1
            # The hub without its bridge knows its own members.
            presence = await here.presence(CHANNEL)
            assert [each.user_id for each in presence.members] == ["ada"]

    async def test_a_hub_that_closes_before_its_bridge_leaves_no_members(self) -> None:
        async with AsyncExitStack() as stack, make_hub() as there, self.open_bridge(there):
            here = await stack.enter_async_context(make_hub())
            await stack.enter_async_context(self.open_bridge(here))
            await subscribe(here, "ada")
            await wait_count(there, 1, 1)
            await here.close()
            await wait_count(there, 0, 0)

    # Messages about users.

    async def test_users_are_announced_once_on_all_hubs(self) -> None:
        settings = PresenceSettings(announce=True, leave_delay=0)
        async with self.open_hubs(3, presence={"*": settings}, presence_info=describe) as hubs:
            observers = [await observe(hub) for hub in hubs]
            first = await subscribe(hubs[0], "ada")
            for observer in observers:
                assert await observer.receive() == ("join", "ada")
            second = await subscribe(hubs[1], "ada")
            third = await subscribe(hubs[1], "ada")
            await wait_count(hubs[2], 6, 2)
            for client in (first, third, second):
                client.close()
            await subscribe(hubs[2], "bob")
            for observer in observers:
                received = {await observer.receive() for _ in range(2)}
                assert received == {("leave", "ada"), ("join", "bob")}
                assert observer.infos["ada"] == {"name": "ADA"}

    async def test_a_user_who_returns_in_time_is_not_announced(self) -> None:
        settings = PresenceSettings(announce=True, leave_delay=3)
        async with self.open_hubs(2, presence={"*": settings}) as (here, there):
            observer = await observe(here)
            client = await subscribe(here, "ada")
            assert await observer.receive() == ("join", "ada")
            for hub in (there, here, there):
                client.close()
                await wait_count(here, 1, 1)
                client = await subscribe(hub, "ada")
                await wait_count(here, 2, 2)
            await subscribe(there, "bob")
            assert await observer.receive() == ("join", "bob")

    async def test_a_user_who_does_not_return_is_announced_after_the_delay(self) -> None:
        settings = PresenceSettings(announce=True, leave_delay=_DELAY)
        async with self.open_hubs(2, presence={"*": settings}) as (here, there):
            observers = [await observe(hub) for hub in (here, there)]
            client = await subscribe(here, "ada")
            for observer in observers:
                assert await observer.receive() == ("join", "ada")
            loop = asyncio.get_running_loop()
            begin = loop.time()
            client.close()
            await wait_count(there, 2, 1)
            for observer in observers:
                assert await observer.receive() == ("leave", "ada")
            # A store may use a clock of its own, which counts in milliseconds.
            assert loop.time() - begin > _DELAY - 0.01

    async def test_connections_without_a_user_are_announced_without_delay(self) -> None:
        settings = PresenceSettings(announce=True, leave_delay=1_000)
        async with self.open_hubs(2, authenticator=None, presence={"*": settings}) as (here, there):
            observer = await observe(here, user="")
            client = await subscribe(there)
            kind, connection_id = await observer.receive()
            assert kind == "join"
            client.close()
            assert await observer.receive() == ("leave", connection_id)

    async def test_users_are_not_announced_by_default(self) -> None:
        async with self.open_hubs(2) as (here, there):
            client = await subscribe(here, "ada")
            await subscribe(there, "bob")
            await wait_count(here, 2, 2)
            await client.sync()
            assert not client.messages

    async def test_a_bridge_that_returns_in_time_announces_nobody(self) -> None:
        settings = PresenceSettings(announce=True, leave_delay=30)
        async with (
            make_hub(presence={"*": settings}) as here,
            make_hub(presence={"*": settings}) as there,
            self.open_bridge(there),
        ):
            observer = await observe(there)
            async with self.open_bridge(here):
                await subscribe(here, "ada")
                assert await observer.receive() == ("join", "ada")
            assert (await there.presence_count(CHANNEL)).connections == 1
            async with self.open_bridge(here):
                await wait_count(there, 2, 2)
                await subscribe(here, "bob")
                assert await observer.receive() == ("join", "bob")

    async def test_the_announcements_agree_with_the_members(self) -> None:
        settings = PresenceSettings(announce=True, leave_delay=0.05)
        async with self.open_hubs(3, presence={"*": settings}) as hubs:
            observers = [await observe(hub) for hub in hubs]
            chooser = random.Random(11)
            clients: list[MemoryClient] = []
            for _ in range(300):
                if clients and chooser.random() < 0.5:
                    client = clients.pop(chooser.randrange(len(clients)))
                    chooser.choice([client.close, client.vanish])()
                else:
                    hub, user = chooser.choice(hubs), f"user-{chooser.randrange(8)}"
                    clients.append(await subscribe(hub, user))
                await asyncio.sleep(chooser.random() * 0.01)
            users = {each.user_id for hub in hubs for each in hub.connections} - {"observer"}
            for observer, hub in zip(observers, hubs, strict=True):
                await wait_count(hub, len(clients) + 3, len(users) + 1)
                async with asyncio.timeout(10):
                    while observer.users != users:
                        await observer.receive()

    # The frames of clients.

    async def test_clients_ask_for_the_members_of_all_hubs(self) -> None:
        async with self.open_hubs(2, presence_info=describe) as (here, there):
            await subscribe(there, "bob")
            client = await subscribe(here, "ada")
            await wait_count(here, 2, 2)
            client.send(b'{"type":"presence","channel":"room:1","id":1}')
            answer = await client.receive()
            assert (answer.type, answer.channel) == ("presence", CHANNEL)
            members = {each["userId"]: each for each in answer.data.pop("members")}
            assert members.keys() == {"ada", "bob"}
            assert members["bob"]["info"] == {"name": "BOB"}
            assert answer.data == {"connections": 2, "users": 2}
            client.send(b'{"type":"presence","channel":"room:1","id":2,"data":{"count":true}}')
            assert (await client.receive()).data == {"connections": 2, "users": 2}
