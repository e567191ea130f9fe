"""The bounded queue of messages between a connection and the application."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Literal, TypeAlias, TypeVar

from wshub_client.waiting import Signal

T = TypeVar("T")

InboxOverflow: TypeAlias = Literal["wait", "drop_oldest", "drop_newest"]
"""The policy for a message that finds the inbox full."""


_READ_AHEAD_FACTOR = 16


class Inbox(Generic[T]):
    """A queue of messages and events, in the order of their arrival.

    Messages are bounded, and the policy decides about those for which there is no room. Events are
    few: they are never dropped and never wait.

    While the application waits for an answer of the hub, the answer may lie behind messages that
    nobody takes. In this time the inbox has room for sixteen times as many messages; beyond that
    the oldest ones are dropped.

    Args:
        size: The number of messages that the inbox has room for.
        overflow: ``"wait"`` makes `put` wait for room, ``"drop_oldest"`` drops the oldest message,
            ``"drop_newest"`` drops the new one.

    Attributes:
        dropped: Number of dropped messages.
    """

    __slots__ = (
        "_changed",
        "_is_closed",
        "_items",
        "_messages",
        "_overflow",
        "_readers_ahead",
        "_size",
        "dropped",
    )

    def __init__(self, size: int, overflow: InboxOverflow) -> None:
        self.dropped = 0
        self._size = size
        self._overflow = overflow
        # Each item, and whether it is a message. The deque is created with the first item, because
        # an empty one takes 760 bytes, and few clients use both of their inboxes.
        self._items: deque[tuple[T, bool]] | None = None
        self._messages = 0
        self._is_closed = False
        self._readers_ahead = 0
        self._changed = Signal()

    async def put(self, message: T, is_over: Callable[[], bool]) -> None:
        """Add a message when there is room, or as the policy says; do nothing once it is closed.

        Args:
            message: The message.
            is_over: Tells whether the connection has ended. Then the message does not wait for
                room, so that the end is noticed.
        """
        waits = self._overflow == "wait"
        while self._messages >= self._size and waits and not self._readers_ahead and not is_over():
            if self._is_closed:
                return
            await self._changed.wait()
        if self._is_closed:
            return
        if self._messages >= self._size * (_READ_AHEAD_FACTOR if waits else 1):
            self.dropped += 1
            if self._overflow == "drop_newest":
                return
            self._drop_oldest()
        self.put_at_once(message)

    @property
    def has_room(self) -> bool:
        """True if a message can be added now, and no other one is dropped for it."""
        return self._messages < self._size and not self._is_closed

    def put_at_once(self, message: T) -> None:
        """Add a message; call this only if there is room."""
        self._messages += 1
        self._add(message, is_message=True)

    def put_event(self, event: T) -> None:
        """Add an event behind all other items."""
        self._add(event, is_message=False)

    def _add(self, item: T, *, is_message: bool) -> None:
        if self._items is None:
            self._items = deque()
        self._items.append((item, is_message))
        self._changed.send()

    async def get(self) -> T | None:
        """Wait for the next item, remove and return it; return None if no more items will come."""
        while not self._items:
            if self._is_closed:
                return None
            await self._changed.wait()
        item, is_message = self._items.popleft()
        self._messages -= is_message
        self._changed.send()
        return item

    def find(self, matches: Callable[[T], bool]) -> T | None:
        """Return the first item that matches a condition; None if none does."""
        return next((item for item, _ in self._items or () if matches(item)), None)

    def put_back(self, message: T) -> None:
        """Put a message in front of all other items, because it did not reach the application."""
        self._messages += 1
        self._items = self._items or deque()
        self._items.appendleft((message, True))
        self._changed.send()

    def drop_all(self) -> None:
        """Drop all items, and count the messages among them."""
        self.dropped += self._messages
        self._messages = 0
        self._items = None

    def close(self) -> None:
        """Refuse further messages; `get` still returns the items that are there."""
        self._is_closed = True
        self._changed.send()

    @contextlib.contextmanager
    def read_ahead(self) -> Iterator[None]:
        """Give messages more room, without waiting, while a block runs."""
        self._readers_ahead += 1
        self.wake()
        try:
            yield
        finally:
            self._readers_ahead -= 1

    def wake(self) -> None:
        """Make waiting calls of `put` and `get` check their conditions again."""
        self._changed.send()

    def _drop_oldest(self) -> None:
        assert self._items is not None, "there are messages"
        index = next(index for index, (_, is_message) in enumerate(self._items) if is_message)
        del self._items[index]
        self._messages -= 1
