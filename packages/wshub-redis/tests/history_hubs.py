"""Hubs with a shared history, and clients that read it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from wshub_core import Hub, HubConfig, Message, MessageType
from wshub_core.testing import MemoryClient, connect
from wshub_core.values.history import HistoryLimits
from wshub_redis import RedisBridge

HISTORY = {"log": HistoryLimits(), "log:*": HistoryLimits()}

QUICK: dict[str, Any] = {"timeout": 1.0, "probe_interval": 0.3}
"""Settings with which outages are noticed quickly."""


@asynccontextmanager
async def open_hub(redis: Any, **options: Any) -> AsyncIterator[tuple[Hub, RedisBridge]]:
    """Open a hub with a bridge; the channel ``log`` has a history."""
    async with (
        Hub(HubConfig(history=HISTORY)) as hub,
        RedisBridge(hub, redis, **QUICK | options) as bridge,
    ):
        yield hub, bridge


class Reader:
    """A client that is subscribed to ``log``.

    Attributes:
        client: The client.
        answer: The ``data`` of the answer.
    """

    def __init__(self, client: MemoryClient, channel: str) -> None:
        self.client = client
        self.answer: dict[str, Any] = {}
        self._channel = channel

    async def subscribe(self, **history: Any) -> None:
        frame = {"type": "subscribe", "id": 1, "channel": self._channel}
        self.client.send(msgspec.json.encode(frame | ({"history": history} if history else {})))
        while (message := await self.client.receive()).type != MessageType.SUBSCRIBED:
            pass
        self.answer = message.data or {}

    async def receive(self, count: int) -> list[tuple[Any, int]]:
        """Return the data and the offset of the next messages."""
        messages = [await self.client.receive() for _ in range(count)]
        return [(each.data, each.offset) for each in messages]

    async def receive_new_epoch(self) -> str:
        """Receive messages until one tells of an epoch that is not that of the answer."""
        while True:
            message = await self.client.receive()
            epoch: str = message.epoch
            if message.type == MessageType.HISTORY_POSITION:
                epoch = message.data["epoch"]
            if epoch not in ("", self.answer["epoch"]):
                return epoch

    async def receive_until(self, data: Any) -> list[tuple[Any, int]]:
        """Return the data and the offset of the next messages up to one."""
        received = await self.receive(1)
        while received[-1][0] != data:
            received += await self.receive(1)
        return received


async def open_reader(hub: Hub, channel: str = "log", **history: Any) -> Reader:
    """Connect a client, and subscribe it."""
    reader = Reader(await connect(hub), channel)
    await reader.subscribe(**history)
    return reader


def event(data: Any) -> Message:
    return Message(type=MessageType.EVENT, data=data)
