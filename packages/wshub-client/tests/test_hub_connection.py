"""The frames of a client on the wire."""

import json
from typing import Any

import pytest
from client_servers import websocket_server
from support import eventually
from websockets.asyncio.server import ServerConnection

from wshub_client import ReconnectingClient
from wshub_core import Message

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


async def test_every_frame_is_json_that_go_ws_understands() -> None:
    frames: list[dict[str, Any]] = []

    async def note(socket: ServerConnection) -> None:
        async for text in socket:
            assert isinstance(text, str)
            frames.append(json.loads(text))
            if frames[-1]["type"] == "ping":
                await socket.send('{"type":"pong"}')

    async with websocket_server(note) as url:
        client = ReconnectingClient(url)
        await client.subscribe("a")
        async with client:
            await client.subscribe("b", confirm=True)
            await client.unsubscribe("a")
            await client.send(Message(type="event", channel="a", data={"n": 1}))
            await eventually(lambda: frames[-1]["type"] == "event")
    ids = [frame.pop("id") for frame in frames if "id" in frame]
    assert len(set(ids)) == len(ids) == 6
    assert frames == [
        {"type": "unsubscribe", "channel": "", "data": ""},
        {"type": "subscribe", "channel": "a", "data": "a"},
        {"type": "ping"},
        {"type": "ping"},  # when it is clear that the hub answers no ids
        {"type": "subscribe", "channel": "b", "data": "b"},
        {"type": "ping"},
        {"type": "unsubscribe", "channel": "a", "data": "a"},
        {"type": "event", "channel": "a", "data": {"n": 1}},
    ]
