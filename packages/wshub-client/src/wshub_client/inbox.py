"""What waits for the application: bounded, in order, with a policy."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Literal, TypeAlias, TypeVar

T = TypeVar("T")

InboxOverflow: TypeAlias = Literal["wait", "drop_oldest", "drop_newest"]
"""What happens to a message for which there is no room."""


_LIFTED_FACTOR = 16


class Inbox(Generic[T]):
    """A queue between the connection and the application.

    Messages are bounded by the policy. Events, of which there are few, are never dropped and never
    wait.

    While the application waits for an answer of the hub, that may lie behind messages, so then
    there is room for sixteen times as many; what is more pushes the oldest out.

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
        self._lifts = 0
        self._changed = asyncio.Event()

    async def put(self, message: T, is_over: Callable[[], bool]) -> None:
        """Add a message, when there is room or as the policy says; nothing once it is closed.

        Args:
            message: The message.
            is_over: Whether the connection has ended; then there is nothing to wait for either.
        """
        waits = self._overflow == "wait"
        while self._messages >= self._size and waits and not self._lifts and not is_over():
            if self._is_closed:
                return
            await self._wait_for_change()
        if self._is_closed:
            return
        if self._messages >= self._size * (_LIFTED_FACTOR if waits else 1):
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

    def put_back(self, message: T) -> None:
        """Make a message the next again, because nobody has got it."""
        self._messages += 1
        self._items.appendleft((message, True))
        self._changed.set()

    def drop_all(self) -> None:
        """Drop what is there, and count the messages."""
        self.dropped += self._messages
        self._messages = 0
        self._items.clear()

    def close(self) -> None:
        """Take no more messages; what is there can still be had."""
        self._is_closed = True
        self._changed.set()

    @contextlib.contextmanager
    def lift(self) -> Iterator[None]:
        """Have `put` not wait, in this block."""
        self._lifts += 1
        self.wake()
        try:
            yield
        finally:
            self._lifts -= 1

    def wake(self) -> None:
        """Have whoever waits look again."""
        self._changed.set()

    def _drop_oldest(self) -> None:
        index = next(index for index, (_, is_message) in enumerate(self._items) if is_message)
        del self._items[index]
        self._messages -= 1

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
