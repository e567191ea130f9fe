"""The publish queue: messages that wait to be sent, and messages that wait for confirmation."""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class QueuedMessage(Generic[T]):
    """One message of a publish queue.

    Attributes:
        channel: The channel on Redis.
        command: The command that publishes the message, encoded.
        since: The time at which the message was published.
        confirmation: An object by which the publisher learns the outcome.
        is_probe: Whether the message is internal and is not counted.
        was_sent: Whether the command was sent at least once.
    """

    channel: bytes
    command: bytes
    since: float
    confirmation: T
    is_probe: bool = False
    was_sent: bool = False


class PublishQueue(Generic[T]):
    """Messages in the order of publishing, limited in bytes.

    A message waits, then it is in flight (sent and not confirmed), then it is answered.

    Args:
        max_bytes: Maximum size in bytes of all messages that wait or are in flight.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[QueuedMessage[T]] = deque()
        self._in_flight: deque[QueuedMessage[T]] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    @property
    def size(self) -> int:
        """Size in bytes of all messages that wait or are in flight."""
        return self._size

    @property
    def has_waiting(self) -> bool:
        """True if a message waits to be sent."""
        return bool(self._waiting)

    @property
    def has_in_flight(self) -> bool:
        """True if a message was sent and is not confirmed."""
        return bool(self._in_flight)

    @property
    def oldest(self) -> float | None:
        """The time at which the first waiting message was published; None if none waits."""
        return self._waiting[0].since if self._waiting else None

    def push(self, item: QueuedMessage[T]) -> bool:
        """Add a message, and return whether there was room for it."""
        if self._size + len(item.command) > self._max_bytes:
            return False
        self._waiting.append(item)
        self._size += len(item.command)
        return True

    def take(self, batch_bytes: int) -> list[bytes]:
        """Mark the next messages as in flight, and return their commands.

        Args:
            batch_bytes: The size at which the batch is complete; the last command may exceed it.
        """
        commands = []
        while self._waiting and batch_bytes > 0:
            item = self._waiting.popleft()
            item.was_sent = True
            self._in_flight.append(item)
            commands.append(item.command)
            batch_bytes -= len(item.command)
        return commands

    def pop_answered(self) -> QueuedMessage[T]:
        """Remove and return the message that the next reply answers."""
        # Redis answers the commands of a connection in the order in which they were sent.
        item = self._in_flight.popleft()
        self._size -= len(item.command)
        return item

    def requeue_in_flight(self) -> None:
        """Move all messages in flight back to the front of the waiting ones, in order."""
        # `extendleft` inserts one by one and would reverse the order.
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight.clear()

    def drop_until(self, time: float) -> list[QueuedMessage[T]]:
        """Remove and return the waiting messages that were published at a time or before it."""
        dropped = []
        while self._waiting and self._waiting[0].since <= time:
            item = self._waiting.popleft()
            self._size -= len(item.command)
            dropped.append(item)
        return dropped
