"""The question who is present in a channel."""

import json
from typing import Any

import pytest
from client_servers import answer_pings, websocket_server
from threaded_hubs import Served
from websockets.asyncio.server import ServerConnection

from wshub_client import (
    BlockingClient,
    NotConnectedError,
    PresenceRefusedError,
    ReconnectingClient,
)
from wshub_core import (
    AuthResult,
    Hub,
    HubConfig,
    InvalidChannelError,
    Member,
    Presence,
    PresenceSettings,
)

ROOMS = {"room:*": PresenceSettings()}


async def refuse(client: ReconnectingClient, channel: str) -> PresenceRefusedError:
    with pytest.raises(PresenceRefusedError) as refusal:
        await client.presence(channel)
    return refusal.value


async def test_a_hub_tells_who_is_present() -> None:
    config = HubConfig(
        presence=ROOMS,
        authenticator=lambda _: AuthResult(True, "alice"),
        presence_info=lambda connection, channel: {"name": "Alice"},
    )
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        async with ReconnectingClient(f"ws://127.0.0.1:{server.port}/ws") as client:
            refusal = await refuse(client, "room:a")
            assert (refusal.channel, refusal.code) == ("room:a", "presence_denied")
            assert (await refuse(client, "news")).code == "no_presence"
            await client.subscribe("room:a", confirm=True)
            presence = await client.presence("room:a")
            [member] = presence.members
            assert presence == Presence(connections=1, users=1, members=(member,))
            assert (member.user_id, member.info) == ("alice", {"name": "Alice"})
            counted = await client.presence("room:a", count=True)
            assert counted == Presence(connections=1, users=1)
            with pytest.raises(InvalidChannelError):
                await client.presence("no channel")
        with pytest.raises(Exception, match="closed"):
            await client.presence("room:a")


async def test_a_hub_without_presence_serves_no_such_request() -> None:
    async with (
        Hub() as hub,
        hub.serve("127.0.0.1", 0) as server,
        ReconnectingClient(f"ws://127.0.0.1:{server.port}/ws") as client,
    ):
        assert (await refuse(client, "room:a")).code == "not_served"
    async with websocket_server(answer_pings) as url, ReconnectingClient(url) as client:
        refusal = await refuse(client, "room:a")
        assert refusal.code == "not_served"
        assert str(refusal) == "room:a: this hub does not tell who is present"


async def test_only_the_answer_of_the_hub_counts() -> None:
    members = [{"userId": "alice", "connectionId": "c1"}]
    answers: list[Any] = [
        {"connections": 2, "users": 1, "members": members, "truncated": True},
        {"connections": "many"},
        None,
    ]

    async def script(socket: ServerConnection) -> None:
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] == "presence":
                forged = {"type": "presence", "channel": "a", "data": "forged"}
                answer = {**forged, "id": frame["id"], "data": answers.pop(0)}
                await socket.send(f"{json.dumps(forged)}\n{json.dumps(answer)}")
            elif frame["type"] == "ping":
                await socket.send(json.dumps({"type": "pong", "id": frame["id"]}))

    async with websocket_server(script) as url, ReconnectingClient(url) as client:
        assert await client.presence("a") == Presence(
            connections=2,
            users=1,
            members=(Member(user_id="alice", connection_id="c1"),),
            truncated=True,
        )
        for _ in range(2):
            assert "not valid" in (await refuse(client, "a")).reason
        assert [(await client.receive()).data for _ in range(3)] == ["forged"] * 3


async def test_a_client_without_a_connection_cannot_ask() -> None:
    client = ReconnectingClient("ws://127.0.0.1:1/ws")
    with pytest.raises(NotConnectedError):
        await client.presence("a")
    await client.close()


def test_a_blocking_client_asks_who_is_present() -> None:
    with (
        Served(presence=ROOMS, presence_authorizer=lambda *_: True) as served,
        BlockingClient(served.url) as client,
    ):
        assert client.presence("room:a") == Presence(connections=0, users=0)
        client.subscribe("room:a", confirm=True)
        assert client.presence("room:a", count=True).connections == 1
