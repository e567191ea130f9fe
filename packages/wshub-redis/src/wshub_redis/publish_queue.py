"""The queue of messages for the other hubs: what waits, and what was sent and not confirmed."""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Outgoing(Generic[T]):
    """One message.

    Attributes:
        channel: The channel on Redis.
        command: The bytes to send.
        since: When it was published.
        confirmation: Who wants to know what becomes of it.
        is_probe: Whether it is no message and does not count.
        was_sent: Whether it was sent at least once.
    """

    channel: bytes
    command: bytes
    since: float
    confirmation: T
    is_probe: bool = False
    was_sent: bool = False


class PublishQueue(Generic[T]):
    """Messages in the order in which they were published, bounded in bytes.

    Args:
        max_bytes: The most bytes of all messages that are not confirmed.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[Outgoing[T]] = deque()
        self._in_flight: deque[Outgoing[T]] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    @property
    def size(self) -> int:
        """How many bytes are not confirmed."""
        return self._size

    @property
    def has_waiting(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._waiting)

    @property
    def has_in_flight(self) -> bool:
        """Whether something was sent and is not confirmed."""
        return bool(self._in_flight)

    @property
    def oldest(self) -> float | None:
        """Since when the first waits; None if nothing waits."""
        return self._waiting[0].since if self._waiting else None

    def push(self, item: Outgoing[T]) -> bool:
        """Add a message; return whether there was room for it."""
        if self._size + len(item.command) > self._max_bytes:
            return False
        self._waiting.append(item)
        self._size += len(item.command)
        return True

    def take(self, most_bytes: int) -> list[bytes]:
        """Return what is to be sent now, at least one command if there is one."""
        commands = []
        while self._waiting and most_bytes > 0:
            item = self._waiting.popleft()
            item.was_sent = True
            self._in_flight.append(item)
            commands.append(item.command)
            most_bytes -= len(item.command)
        return commands

    def settle(self) -> Outgoing[T]:
        """Return the message that the next reply is about, and have done with it."""
        item = self._in_flight.popleft()
        self._size -= len(item.command)
        return item

    def take_back(self) -> None:
        """Have what was not confirmed wait again, in its place."""
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight.clear()

    def drop(self, before: float) -> list[Outgoing[T]]:
        """Drop and return what waits since before a time, or since then."""
        dropped = []
        while self._waiting and self._waiting[0].since <= before:
            item = self._waiting.popleft()
            self._size -= len(item.command)
            dropped.append(item)
        return dropped
