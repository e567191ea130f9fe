"""A client that reads histories, for the contract of histories."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from wshub_core.hub import Hub
from wshub_core.testing.client import MemoryClient, connect
from wshub_core.values.history import HistoryPage
from wshub_core.values.messages import Message, MessageType

_WAIT_SECONDS = 30.0
"""Seconds for which a test waits for a state of the history before it fails."""

_RECEIVE_ATTEMPTS = 4
"""Number of times that a test waits five seconds for a message, before the last attempt."""


class HistoryReader:
    """A client that asks for histories and checks the positions of the messages.

    Args:
        client: The client.

    Attributes:
        client: The client.
    """

    def __init__(self, client: MemoryClient) -> None:
        self.client = client

    async def subscribe(self, channel: str, **history: Any) -> dict[str, Any]:
        """Subscribe with an ``id``; return the ``data`` of the answer.

        Messages of the channel that come before the answer are dropped.

        Args:
            channel: The channel.
            **history: The fields of ``history``; none for a frame without ``history``.
        """
        frame = {"type": "subscribe", "id": 1, "channel": channel}
        self.client.send(msgspec.json.encode(frame | ({"history": history} if history else {})))
        while True:
            message = await self.next()
            assert message.type != MessageType.ERROR, message
            if message.type == MessageType.SUBSCRIBED:
                return message.data or {}

    async def receive(self, count: int, after: int | None = None) -> list[Any]:
        """Return the data of the next messages.

        Args:
            count: Number of messages.
            after: Offset directly before the first message; then the offsets are checked.
        """
        messages = [await self.next() for _ in range(count)]
        if after is not None:
            offsets = [message.offset for message in messages]
            assert offsets == [*range(after + 1, after + 1 + count)], offsets
            assert len({message.epoch for message in messages}) <= 1, messages
        return [message.data for message in messages]

    async def receive_until(self, data: Any) -> list[Message]:
        """Return the next messages, up to the one with these data."""
        messages = [await self.next()]
        while messages[-1].data != data:
            messages.append(await self.next())
        return messages

    async def follow(self, channel: str, epoch: str, *, until: Any) -> list[int]:
        """Receive all messages of a history from the first one, as a client does.

        At a jump of the offsets, and at a notice, the client asks for what it has missed.

        Args:
            channel: The channel.
            epoch: The epoch of its history.
            until: The data of the last message.

        Returns:
            The offsets of the messages.
        """
        offsets: list[int] = []
        while True:
            message = await self.next()
            if message.offset == len(offsets) + 1:
                offsets.append(message.offset)
                if message.data == until:
                    return offsets
            elif message.offset or message.type == MessageType.HISTORY_POSITION:
                assert message.offset == 0 or message.offset > len(offsets), message
                await self.subscribe(channel, since=len(offsets), epoch=epoch)

    async def next(self) -> Message:
        """Return the next message; do not wait if it has arrived."""
        messages = self.client.messages
        if messages:
            return messages.popleft()
        # Less than the time after which a hub compares its positions by itself.
        for _ in range(_RECEIVE_ATTEMPTS):
            with contextlib.suppress(TimeoutError):
                return await self.client.receive()
        return await self.client.receive()

    async def assert_silent(self) -> None:
        """Check that no message waits, also after a round trip to the hub."""
        await self.client.sync()
        assert not self.client.messages, self.client.messages


async def open_reader(hub: Hub) -> HistoryReader:
    """Connect a client."""
    return HistoryReader(await connect(hub))


def publish(hub: Hub, channel: str, data: Iterable[Any]) -> None:
    """Publish one event for each item."""
    for item in data:
        hub.publish(channel, Message(type=MessageType.EVENT, data=item))


async def wait_history(
    hub: Hub, channel: str, condition: Callable[[HistoryPage], bool]
) -> HistoryPage:
    """Wait until the position of a history meets a condition; return the whole history."""
    async with asyncio.timeout(_WAIT_SECONDS):
        # One message at a time, because decoding the whole history takes long.
        while not condition(await hub.history(channel, limit=1)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return await hub.history(channel, limit=20_000)


async def fill(hub: Hub, channel: str, data: Iterable[Any]) -> HistoryPage:
    """Publish events, and wait until the history has taken them; return the history."""
    before = await hub.history(channel)
    items = list(data)
    publish(hub, channel, items)
    return await wait_history(hub, channel, lambda page: page.offset == before.offset + len(items))
