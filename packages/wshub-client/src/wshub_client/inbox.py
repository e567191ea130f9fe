"""What waits for the application: bounded, in order, with a policy."""

import asyncio
from collections import deque
from typing import Generic, Literal, TypeAlias, TypeVar

T = TypeVar("T")

InboxOverflow: TypeAlias = Literal["wait", "drop_oldest", "drop_newest"]
"""What happens to a message for which there is no room."""


class Inbox(Generic[T]):
    """A queue between the connection and the application.

    Messages are bounded by the policy. Events, of which there are few, are never dropped and never
    wait.

    Args:
        size: How many messages there is room for.
        overflow: ``"wait"`` makes `put` wait, ``"drop_oldest"`` makes room, ``"drop_newest"`` drops
            the new one.

    Attributes:
        dropped: How many messages were dropped.
    """

    def __init__(self, size: int, overflow: InboxOverflow) -> None:
        self.dropped = 0
        self._size = size
        self._overflow = overflow
        self._items: deque[tuple[T, bool]] = deque()
        self._messages = 0
        self._is_closed = False
        self._changed = asyncio.Event()

    async def put(self, message: T) -> None:
        """Add a message, when there is room or as the policy says; nothing once it is closed."""
        while self._overflow == "wait" and self._messages >= self._size and not self._is_closed:
            await self._wait_for_change()
        if self._is_closed:
            return
        if self._messages >= self._size:
            self.dropped += 1
            if self._overflow == "drop_newest":
                return
            self._drop_oldest()
        self._messages += 1
        self._items.append((message, True))
        self._changed.set()

    def put_event(self, event: T) -> None:
        """Add an event, behind all that is there."""
        self._items.append((event, False))
        self._changed.set()

    async def get(self) -> T | None:
        """Remove and return the next item, when there is one; None when no more will come."""
        while not self._items:
            if self._is_closed:
                return None
            await self._wait_for_change()
        item, is_message = self._items.popleft()
        self._messages -= is_message
        self._changed.set()
        return item

    def close(self) -> None:
        """Take no more messages; what is there can still be had."""
        self._is_closed = True
        self._changed.set()

    def _drop_oldest(self) -> None:
        index = next(index for index, (_, is_message) in enumerate(self._items) if is_message)
        del self._items[index]
        self._messages -= 1

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
