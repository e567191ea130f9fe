"""`Hub.subscribe_nowait`: connections that are subscribed before a message is delivered."""

import asyncio
from collections.abc import Awaitable
from typing import cast

import pytest
from support import eventually

from wshub_core import Connection, DisconnectCause, Hub, HubConfig, Message
from wshub_core.connections.connection import ServerConnection
from wshub_core.hub import running_hub
from wshub_core.testing import connect


async def test_a_listener_subscribes_connections_in_time_for_the_message() -> None:
    async with Hub() as hub:
        client = await connect(hub)
        hub.add_publish_listener(
            lambda channel, _: hub.subscribe_nowait(hub.connections[0], channel)
        )
        hub.publish("news", Message(type="event", data=1))
        assert (await client.receive()).data == 1
        assert hub.subscribers("news") == hub.connections


async def test_subscribe_nowait_asks_the_authorizer() -> None:
    def is_allowed(_: Connection, channel: str) -> bool:
        return channel == "public"

    async with Hub(HubConfig(channel_authorizer=is_allowed)) as hub:
        client = await connect(hub)
        hub.subscribe_nowait(hub.connections[0], "secret")
        hub.subscribe_nowait(hub.connections[0], "public")
        assert hub.channels == ("public",)
        await client.sync()


async def test_an_async_authorizer_subscribes_later() -> None:
    async def is_allowed(_: Connection, channel: str) -> bool:
        await asyncio.sleep(0)
        return channel == "public"

    async with Hub(HubConfig(channel_authorizer=is_allowed)) as hub:
        await connect(hub)
        hub.subscribe_nowait(hub.connections[0], "secret")
        hub.subscribe_nowait(hub.connections[0], "public")
        await eventually(lambda: hub.channels == ("public",))


async def test_a_listener_that_raises_is_counted_and_the_message_is_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(channel: str, message: Message) -> None:
        raise ValueError("mistake")

    async with Hub() as hub:
        client = await connect(hub)
        hub.add_publish_listener(fail)
        await hub.subscribe(hub.connections[0], "news")
        hub.publish("news", Message(type="event", data=1))
        assert (await client.receive()).data == 1
        assert hub.stats().callback_errors == 1
    assert "publish listener failed" in caplog.text


async def test_a_channel_that_is_no_string_is_a_type_error() -> None:
    async with Hub() as hub:
        await connect(hub)
        with pytest.raises(TypeError, match="a channel must be a str, not list"):
            hub.subscribe_nowait(hub.connections[0], ["a"])  # type: ignore[arg-type]


async def test_a_connection_that_the_authorizer_ends_is_not_kept() -> None:
    async def allow() -> bool:
        return True

    def end_and_allow(connection: Connection, channel: str) -> Awaitable[bool]:
        lifecycle = running_hub(hub).lifecycle
        cause = DisconnectCause.SERVER_CLOSED
        lifecycle.close(cast(ServerConnection, connection), cause, 1000, "")
        return allow()

    async with Hub(HubConfig(channel_authorizer=end_and_allow)) as hub:
        client = await connect(hub)
        hub.subscribe_nowait(hub.connections[0], "news")
        await client.wait_closed()
        assert hub.channels == ()
        assert running_hub(hub).subscriptions._deciding == {}
