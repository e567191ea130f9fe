"""Hubs and clients for the contract of presence stores."""

import asyncio
from typing import Any

from wshub_core.hub import Hub
from wshub_core.testing.client import MemoryClient, connect
from wshub_core.values.auth import AuthResult
from wshub_core.values.config import HubConfig
from wshub_core.values.connection import Connection
from wshub_core.values.http import Request
from wshub_core.values.messages import Message
from wshub_core.values.presence import PresenceCount, PresenceSettings

CHANNEL = "room:1"

_WAIT_SECONDS = 10.0
"""Time in seconds in which the hubs must agree."""


def make_hub(**settings: Any) -> Hub:
    """Return a hub with presence, for users named in the query."""
    settings.setdefault("presence", {"room:*": PresenceSettings()})
    settings.setdefault("authenticator", _authenticate)
    return Hub(HubConfig(**settings))


def _authenticate(request: Request) -> AuthResult:
    return AuthResult(True, request.query.removeprefix("user="))


def describe(connection: Connection, _: str) -> dict[str, str]:
    """Return the info of a member."""
    return {"name": connection.user_id.upper()}


async def subscribe(hub: Hub, user: str = "", *channels: str) -> MemoryClient:
    """Connect a client of a user, and subscribe it."""
    client = await connect(hub, query=f"user={user}")
    for channel in channels or (CHANNEL,):
        client.subscribe(channel)
    await client.sync()
    return client


async def wait_count(hub: Hub, connections: int, users: int) -> None:
    """Wait until a hub knows the numbers of members."""
    expected = PresenceCount(connections=connections, users=users)
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while await hub.presence_count(CHANNEL) != expected:  # noqa: ASYNC110 - no event is set
                await asyncio.sleep(0.01)
    except TimeoutError:
        counted = await hub.presence_count(CHANNEL)
        raise AssertionError(f"expected {expected}, not {counted}") from None


class Observer:
    """A client that reads the messages about users, and checks each of them.

    Attributes:
        users: The users who are present according to the messages.
        infos: The last info of each user.
    """

    def __init__(self, client: MemoryClient, own_name: str) -> None:
        self.users: set[str] = set()
        self.infos: dict[str, Any] = {}
        self._client = client
        self._own_name = own_name
        self._news: list[tuple[str, str]] = []

    async def receive(self) -> tuple[str, str]:
        """Return the type of the next message about a user, and the user or its connection."""
        while not self._news:
            self._read(await self._client.receive())
        return self._news.pop(0)

    def _read(self, message: Message) -> None:
        assert message.type in ("join", "leave"), message
        assert message.channel == CHANNEL
        assert message.data, "a message without members"
        for member in message.data:
            name = member["userId"] or member["connectionId"]
            if name == self._own_name:
                continue
            # Nobody comes twice, and nobody goes without having come.
            assert (name in self.users) == (message.type == "leave"), (message.type, name)
            self.users.symmetric_difference_update({name})
            self.infos[name] = member.get("info")
            self._news.append((message.type, name))


async def observe(hub: Hub, user: str = "observer") -> Observer:
    """Subscribe an observer, and wait until it is announced to itself."""
    client = await subscribe(hub, user)
    if user:
        # Only the first observer is announced; later ones are connections of the same user.
        await hub.presence_count(CHANNEL)
        await client.sync()
        client.messages.clear()
        return Observer(client, user)
    joined = await client.receive()
    return Observer(client, joined.data[0]["connectionId"])
