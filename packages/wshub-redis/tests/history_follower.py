"""A client that follows a history by the rules of the wire protocol, and records what it sees."""

import asyncio
import contextlib
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from wshub_core import Hub, Message, MessageType
from wshub_core.testing import MemoryClient, connect


class Seen(NamedTuple):
    """A message that was delivered; the offset is 0 for one that is in no history."""

    epoch: str
    offset: int
    data: Any


class Gap(NamedTuple):
    """A report that messages may be missing before those that follow."""

    reason: str


class Follower:
    """A client of one channel, from its first message on.

    Attributes:
        seen: The delivered messages and the gaps, in order.
        repeated: Number of messages that came again, and were dropped.
    """

    def __init__(self, channel: str) -> None:
        self.seen: list[Seen | Gap] = []
        self.repeated = 0
        self._channel = channel
        self._position: tuple[str, int] | None = None
        self._request: int | None = None
        self._requests = 0
        # The position at the last request because of a jump: asking twice would not help.
        self._asked_at: tuple[str, int] | None = None
        self._client: MemoryClient | None = None
        self._task: asyncio.Task[None] | None = None

    async def connect(self, hub: Hub) -> None:
        """Connect, and ask for what was missed."""
        self._client = await connect(hub)
        self._asked_at = None
        self._ask()
        self._task = asyncio.create_task(self._run(self._client))

    async def disconnect(self) -> None:
        """Drop the connection, with what has arrived and was not read yet."""
        if self._task is not None and self._client is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._client.close()
            self._client = None

    @property
    def has_position(self) -> bool:
        """True if the client knows its position in the history."""
        return self._position is not None

    def data(self) -> list[Any]:
        """Return the data of all messages so far."""
        return [each.data for each in self.seen if isinstance(each, Seen)]

    def unstored(self) -> list[Any]:
        """Return the data of the messages that are in no history."""
        return [each.data for each in self.seen if isinstance(each, Seen) and not each.offset]

    def segments(self) -> list[list[Seen]]:
        """Return the messages with positions between two gaps."""
        segments: list[list[Seen]] = [[]]
        for each in self.seen:
            if isinstance(each, Gap):
                segments.append([])
            elif each.offset:
                segments[-1].append(each)
        return segments

    async def _run(self, client: MemoryClient) -> None:
        with contextlib.suppress(ConnectionResetError):
            while True:
                with contextlib.suppress(TimeoutError):
                    self._take(await client.receive())

    def _ask(self) -> None:
        assert self._client is not None
        self._requests += 1
        self._request = self._requests
        history: dict[str, Any] = {"since": 0}
        if self._position is not None:
            history = {"since": self._position[1], "epoch": self._position[0]}
        frame = {"type": "subscribe", "id": self._request, "channel": self._channel}
        self._client.send(msgspec.json.encode(frame | {"history": history}))

    def _take(self, message: Message) -> None:
        match message.type:
            case MessageType.SUBSCRIBED:
                self._take_answer(message.data)
            case MessageType.HISTORY_POSITION:
                newest = message.data["epoch"], message.data["offset"]
                if self._request is None and self._is_behind(newest):
                    self._ask()
            case MessageType.ERROR if message.offset == 0:
                raise AssertionError(message)
            case _ if message.offset:
                self._take_stored(Seen(message.epoch, message.offset, message.data))
            case _:
                self.seen.append(Seen("", 0, message.data))

    def _is_behind(self, newest: tuple[str, int]) -> bool:
        if self._position is None or self._position[0] != newest[0]:
            return True
        return self._position[1] < newest[1]

    def _take_answer(self, data: dict[str, Any]) -> None:
        # An answer to an earlier request is followed by the one that counts.
        self._request = None
        if not data["recovered"]:
            self.seen.append(Gap(data["reason"]))
        if "epoch" in data:
            self._position = data["epoch"], data["after"]
        else:
            # The history cannot be read now, so asking again may help later.
            self._asked_at = None

    def _take_stored(self, message: Seen) -> None:
        if self._request is not None:
            return
        position = self._position
        if position is not None and message.epoch == position[0]:
            if message.offset <= position[1]:
                self.repeated += 1
                return
            if message.offset == position[1] + 1:
                self._deliver(message)
                self._asked_at = None
                return
        if self._asked_at is not None and self._asked_at == position:
            self.seen.append(Gap("skipped"))
            self._deliver(message)
            return
        self._asked_at = position
        self._ask()

    def _deliver(self, message: Seen) -> None:
        self._position = message.epoch, message.offset
        self.seen.append(message)


def check(followers: list[Follower]) -> None:
    """Check what several clients of one channel have seen.

    Between two gaps the offsets have no holes. Every position has one message, and no message has
    two positions in one epoch, for all clients together.
    """
    messages: dict[tuple[str, int], Any] = {}
    offsets: dict[tuple[str, str], int] = {}
    for follower in followers:
        for segment in follower.segments():
            for before, after in pairwise(segment):
                assert (after.epoch, after.offset) == (before.epoch, before.offset + 1)
            for each in segment:
                key = each.epoch, each.offset
                assert messages.setdefault(key, each.data) == each.data, key
                name = each.epoch, repr(each.data)
                assert offsets.setdefault(name, each.offset) == each.offset, name
