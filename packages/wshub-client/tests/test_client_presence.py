"""Requests of the Python clients for the members of a channel."""

import asyncio
import json
from typing import Any

import pytest
from client_servers import answer_pings, websocket_server
from threaded_hubs import Served
from websockets.asyncio.server import ServerConnection

from wshub_client import (
    BlockingClient,
    LostError,
    NotConnectedError,
    PresenceRefusedError,
    ReconnectingClient,
)
from wshub_core import (
    AuthResult,
    Connection,
    Hub,
    HubConfig,
    InvalidChannelError,
    Message,
    PresenceCount,
    PresenceSettings,
    Request,
)

PRESENCE = {"room:*": PresenceSettings()}


def authenticate(request: Request) -> AuthResult:
    return AuthResult(True, request.query.removeprefix("user="))


def describe(connection: Connection, _: str) -> dict[str, str]:
    return {"name": connection.user_id.upper()}


async def test_a_client_asks_who_is_present() -> None:
    config = HubConfig(presence=PRESENCE, presence_info=describe, authenticator=authenticate)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws?user="
        async with ReconnectingClient(url + "ada") as ada, ReconnectingClient(url + "bob") as bob:
            for client in (ada, bob):
                await client.subscribe("room:1", confirm=True)
            presence = await ada.presence("room:1")
            assert (presence.connections, presence.users) == (2, 2)
            assert {each.user_id: each.info for each in presence.members} == {
                "ada": {"name": "ADA"},
                "bob": {"name": "BOB"},
            }
            assert presence == await hub.presence("room:1")
            assert await bob.presence_count("room:1") == PresenceCount(connections=2, users=2)
            # Requests at the same time get their own answers.
            counts = await asyncio.gather(*(ada.presence_count("room:1") for _ in range(50)))
            assert {each.users for each in counts} == {2}


@pytest.mark.parametrize(
    ("channel", "code"), [("room:2", "presence_denied"), ("news", "no_presence")]
)
async def test_a_hub_can_refuse_the_request(channel: str, code: str) -> None:
    async with (
        Hub(HubConfig(presence=PRESENCE)) as hub,
        hub.serve("127.0.0.1", 0) as server,
        ReconnectingClient(f"ws://127.0.0.1:{server.port}/ws") as client,
    ):
        with pytest.raises(PresenceRefusedError) as refusal:
            await client.presence(channel)
        assert (refusal.value.channel, refusal.value.code) == (channel, code)
        with pytest.raises(InvalidChannelError):
            await client.presence("room 1")


async def test_a_hub_without_presence_refuses_the_request(url: str) -> None:
    async with ReconnectingClient(url) as client:
        with pytest.raises(PresenceRefusedError) as refusal:
            await client.presence("room:1")
        assert refusal.value.code == "not_served"


@pytest.mark.parametrize("has_on_message", [False, True])
async def test_an_application_that_ignores_the_request_leaves_no_client_waiting(
    has_on_message: bool,
) -> None:
    config = HubConfig(on_message=(lambda *_: None) if has_on_message else None)
    async with (
        Hub(config) as hub,
        hub.serve("127.0.0.1", 0) as server,
        ReconnectingClient(f"ws://127.0.0.1:{server.port}/ws") as client,
    ):
        with pytest.raises(PresenceRefusedError) as refusal:
            await client.presence_count("room:1")
        assert refusal.value.code == "not_served"


async def test_a_hub_of_go_ws_ignores_the_request() -> None:
    async with websocket_server(answer_pings) as url, ReconnectingClient(url) as client:
        with pytest.raises(PresenceRefusedError, match="does not tell"):
            await client.presence("room:1")


async def test_messages_of_the_type_reach_the_application(hub: Hub, url: str) -> None:
    async with ReconnectingClient(url) as client:
        await client.subscribe("news", confirm=True)
        hub.publish("news", Message(type="presence", data="mine"))
        assert (await client.receive()).data == "mine"


@pytest.mark.parametrize("data", [None, [], {"connections": "2", "users": 1}, {"users": 1}])
async def test_an_invalid_answer_is_an_error(data: Any) -> None:
    async def answer(socket: ServerConnection) -> None:
        async for text in socket:
            frame = json.loads(text)
            kind = {"ping": "pong", "presence": "presence"}.get(frame["type"], "unsubscribed")
            await socket.send(json.dumps({"type": kind, "id": frame.get("id"), "data": data}))

    async with websocket_server(answer) as url, ReconnectingClient(url) as client:
        with pytest.raises(PresenceRefusedError, match="invalid answer"):
            await client.presence("room:1")


async def test_a_request_needs_a_connection_that_lasts(hub: Hub, url: str) -> None:
    client = ReconnectingClient(url)
    with pytest.raises(NotConnectedError):
        await client.presence("room:1")

    async def hang_up(socket: ServerConnection) -> None:
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] == "presence":
                return
            await socket.send(json.dumps({"type": "pong", "id": frame.get("id")}))

    async with websocket_server(hang_up) as other, ReconnectingClient(other) as client:
        with pytest.raises(LostError):
            await client.presence("room:1")


def test_the_blocking_client_asks_too() -> None:
    with Served(presence=PRESENCE) as served, BlockingClient(served.url) as client:
        client.subscribe("room:1", confirm=True)
        assert client.presence("room:1").connections == 1
        assert client.presence_count("room:1").users == 1
        with pytest.raises(PresenceRefusedError):
            client.presence("news")
