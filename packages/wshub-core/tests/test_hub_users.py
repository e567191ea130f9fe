"""The methods of a hub about users: all their connections, on all hubs, and nobody else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support import eventually

from wshub_core import (
    AuthResult,
    Connection,
    Hub,
    HubConfig,
    InvalidChannelError,
    InvalidCloseError,
    Message,
    MessageDecodeError,
    MessageTooLargeError,
    PublishDeniedError,
    ReservedTypeError,
    SubscriptionDeniedError,
)
from wshub_core.testing import MemoryBridge, MemoryClient, MemoryExchange, connect


def authenticate(request: Any) -> AuthResult:
    return AuthResult(True, request.header("x-user"))


CONFIG = HubConfig(authenticator=authenticate)


async def connect_as(hub: Hub, user_id: str) -> MemoryClient:
    return await connect(hub, headers={"x-user": user_id})


async def test_connections_of_a_user_are_listed_by_age_and_leave_when_they_end() -> None:
    async with Hub(CONFIG) as hub:
        clients = [await connect_as(hub, user) for user in ("a", "b", "a", "a")]
        assert [each.id for each in hub.connections_of("a")] == [1, 3, 4]
        assert [each.id for each in hub.connections_of("b")] == [2]
        clients[2].vanish()
        await asyncio.sleep(0.01)
        assert [each.id for each in hub.connections_of("a")] == [1, 4]
        clients[1].close()
        await asyncio.sleep(0.01)
        assert hub.connections_of("b") == ()
        assert hub.connections_of("nobody") == ()
    assert hub.connections_of("a") == ()


async def test_connections_without_a_user_belong_to_nobody() -> None:
    hub = Hub()
    assert hub.connections_of("") == ()
    async with hub:
        await connect(hub)
        assert hub.connections_of("") == ()
        assert len(hub.connections) == 1


async def test_a_message_to_a_user_keeps_the_order_of_all_other_messages() -> None:
    async with Hub(CONFIG) as hub:
        first, other, second = [await connect_as(hub, user) for user in ("a", "b", "a")]
        hub.send_event("one")
        assert hub.send_to_user("a", Message(type="event", data="two")) == 2
        hub.connections_of("a")[0].send(Message(type="event", data="three"))
        hub.send_event("four")
        assert hub.send_to_user("nobody", Message(type="event")) == 0
        seen = [(await first.receive()).data for _ in range(4)]
        assert seen[1:3] == ["two", "three"]
        seen = [(await second.receive()).data for _ in range(3)]
        assert seen[1] == "two"
        assert [(await other.receive()).data["event"] for _ in range(2)] == ["one", "four"]


async def test_wrong_messages_raise_errors_even_if_the_user_has_no_connection() -> None:
    async with Hub(CONFIG) as hub:
        with pytest.raises(TypeError):
            hub.send_to_user("a", {"x": 1})  # type: ignore[arg-type]
        with pytest.raises(ReservedTypeError):
            hub.send_to_user("a", Message(type="pong"))
        with pytest.raises(InvalidChannelError):
            await hub.subscribe_user("a", "no channel")
        with pytest.raises(InvalidCloseError):
            hub.disconnect_user("a", 1005)
        with pytest.raises(InvalidCloseError):
            hub.disconnect(1, 1000, "x" * 124)


async def test_all_connections_of_a_user_are_subscribed_and_unsubscribed() -> None:
    async with Hub(CONFIG) as hub:
        clients = [await connect_as(hub, user) for user in ("a", "b", "a")]
        assert await hub.subscribe_user("a", "news") == 2
        assert {each.user_id for each in hub.subscribers("news")} == {"a"}
        hub.unsubscribe(hub.connections_of("a")[0], "news")
        assert hub.unsubscribe_user("a", "news") == 1
        assert hub.channels == ()
        assert len(clients) == 3


async def test_a_refused_connection_does_not_hold_up_the_others() -> None:
    async def allow_later_ones(connection: Connection, channel: str) -> bool:
        await asyncio.sleep(0)
        return connection.id > 1

    config = HubConfig(authenticator=authenticate, channel_authorizer=allow_later_ones)
    async with Hub(config) as hub:
        clients = [await connect_as(hub, "a") for _ in range(3)]
        with pytest.raises(SubscriptionDeniedError):
            await hub.subscribe_user("a", "news")
        assert sorted(each.id for each in hub.subscribers("news")) == [2, 3]
        assert len(clients) == 3


async def test_a_disconnected_user_gets_queued_messages_and_a_code() -> None:
    async with Hub(CONFIG) as hub:
        first, other, second = [await connect_as(hub, user) for user in ("a", "b", "a")]
        hub.send_to_user("a", Message(type="event", data="last"))
        assert hub.disconnect_user("a", reason="logged out") == 2
        assert hub.connections_of("a") == ()
        for client in (first, second):
            assert (await client.receive()).data == "last"
            assert await client.wait_closed() == 1008
        await other.sync()
        assert hub.disconnect_user("a") == 0


async def test_one_connection_is_disconnected_by_its_id() -> None:
    async with Hub(CONFIG) as hub:
        first, second = [await connect_as(hub, "a") for _ in range(2)]
        assert hub.disconnect(1, 4001)
        assert await first.wait_closed() == 4001
        assert not hub.disconnect(1)
        await second.sync()


@pytest.fixture
async def joined() -> AsyncIterator[tuple[Hub, Hub]]:
    """Two hubs that a bridge joins."""
    exchange = MemoryExchange()
    async with (
        Hub(CONFIG) as here,
        Hub(CONFIG) as there,
        MemoryBridge(here, exchange),
        MemoryBridge(there, exchange),
    ):
        yield here, there


async def test_the_numbers_are_those_of_one_hub(joined: tuple[Hub, Hub]) -> None:
    here, there = joined
    near, far = await connect_as(here, "a"), await connect_as(there, "a")
    assert len(here.connections_of("a")) == 1
    assert here.send_to_user("a", Message(type="event", data=1)) == 1
    assert (await near.receive()).data == (await far.receive()).data == 1
    assert await here.subscribe_user("a", "news") == 1
    assert here.unsubscribe_user("a", "news") == 1
    assert here.disconnect_user("a") == 1
    assert await near.wait_closed() == await far.wait_closed() == 1008


async def test_an_operation_that_is_refused_here_reaches_no_other_hub(
    joined: tuple[Hub, Hub],
) -> None:
    here, there = joined
    client = await connect_as(there, "a")
    with pytest.raises(InvalidChannelError):
        await here.subscribe_user("a", "no channel")
    with pytest.raises(InvalidCloseError):
        here.disconnect_user("a", 1005)
    with pytest.raises(MessageTooLargeError):
        here.send_to_user("a", Message(type="event", data="x" * CONFIG.max_message_bytes))
    with pytest.raises(InvalidChannelError):  # the other hubs would drop it
        here.send_to_user("a", Message(type="event", channel="no channel"))
    await client.sync()
    assert not client.messages
    assert there.channels == ()


async def test_a_message_that_fits_clients_but_not_the_operation_reaches_nobody(
    joined: tuple[Hub, Hub],
) -> None:
    here, there = joined
    clients = [await connect_as(here, "a"), await connect_as(there, "a")]
    here.send_event("x", "x" * (CONFIG.max_message_bytes - 150))
    for client in clients:
        await client.receive()
    with pytest.raises(MessageTooLargeError):
        here.send_to_user("a", Message(type="event", data="x" * (CONFIG.max_message_bytes - 150)))
    for client in clients:
        await client.sync()
        assert not client.messages


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"type":"event","data":{"operation":"later","userId":"a"}}',
        b'{"type":"event","data":{"operation":"keep_answer","userId":"a","answer":{}}}',
        b'{"type":"event","data":{"operation":"send","userId":"a"}}',
        b'{"type":"event","data":{"operation":"send","userId":"a","message":{"type":"pong"}}}',
        b'{"type":"event","data":{"operation":"send","userId":7,"message":{"type":"event"}}}',
        b'{"type":"event","data":{"operation":"subscribe","userId":"a","channel":"no channel"}}',
        b'{"type":"event","data":{"operation":"disconnect","userId":"a","code":1,"reason":""}}',
        b"\xff",
    ],
)
async def test_an_operation_that_is_none_changes_nothing(payload: bytes) -> None:
    async with Hub(CONFIG) as hub:
        client = await connect_as(hub, "a")
        with pytest.raises(MessageDecodeError):
            hub.deliver("wshub:private:fleet", payload)
        await client.sync()
        assert not client.messages
        assert hub.channels == ()


async def test_a_message_for_a_user_obeys_the_limit_of_the_hub_that_receives_it() -> None:
    exchange = MemoryExchange()
    small = HubConfig(authenticator=authenticate, max_message_bytes=1_000)
    async with (
        Hub(CONFIG) as here,
        Hub(small) as there,
        MemoryBridge(here, exchange),
        MemoryBridge(there, exchange),
    ):
        client = await connect_as(there, "a")
        with pytest.raises(MessageTooLargeError):  # this bridge delivers at once
            here.send_to_user("a", Message(type="event", data="x" * 1_000))
        await client.sync()
        assert not client.messages


async def test_another_hub_asks_its_own_authorizer() -> None:
    exchange = MemoryExchange()
    deny = HubConfig(authenticator=authenticate, channel_authorizer=lambda *_: False)
    async with (
        Hub(CONFIG) as here,
        Hub(deny) as there,
        MemoryBridge(here, exchange),
        MemoryBridge(there, exchange),
    ):
        client = await connect_as(there, "a")
        assert await here.subscribe_user("a", "news") == 0
        await client.sync()
        assert there.channels == ()


async def test_a_hub_without_users_passes_operations_on() -> None:
    exchange = MemoryExchange()
    async with (
        Hub() as here,
        Hub(CONFIG) as there,
        MemoryBridge(here, exchange),
        MemoryBridge(there, exchange),
    ):
        client = await connect_as(there, "a")
        assert here.send_to_user("a", Message(type="event", data=1)) == 0
        assert (await client.receive()).data == 1
        assert there.channels == ()


async def test_a_user_who_leaves_one_hub_can_be_logged_out_of_all() -> None:
    """Each end of a connection causes an operation, and each operation ends connections."""
    exchange = MemoryExchange()
    hubs: list[Hub] = []
    ended: list[int] = []

    def log_out(connection: Connection, _: object) -> None:
        ended.append(connection.id)
        for hub in hubs:
            hub.disconnect_user(connection.user_id, 4001)

    config = HubConfig(authenticator=authenticate, on_disconnect=log_out)
    async with (
        Hub(config) as here,
        Hub(config) as there,
        MemoryBridge(here, exchange),
        MemoryBridge(there, exchange),
    ):
        hubs += [here, there]
        clients = [await connect_as(hub, "a") for hub in (here, there, here, there)]
        other = await connect_as(there, "b")
        clients[0].close()
        for client in clients[1:]:
            assert await client.wait_closed() == 4001
        await other.sync()
        await eventually(lambda: sorted(ended) == [1, 1, 2, 2])


async def test_an_application_that_publishes_to_any_channel_sends_no_operation(
    joined: tuple[Hub, Hub],
) -> None:
    """An application may take the name of the channel from a client."""
    here, there = joined
    client = await connect_as(there, "a")
    data = {"operation": "disconnect", "userId": "a", "code": 1008, "reason": ""}
    with pytest.raises(PublishDeniedError):
        here.publish("wshub:private:fleet", Message(type="event", data=data))
    with pytest.raises(PublishDeniedError):
        here.bridge_port.publish_local("wshub:private:fleet", Message(type="event", data=data))
    await client.sync()
    assert len(there.connections_of("a")) == 1
