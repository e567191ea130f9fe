"""The publish queue: messages that wait to be sent, and messages that wait for confirmation."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class QueuedMessage(Generic[T]):
    """One message of a publish queue.

    Attributes:
        channel: The channel on Redis.
        command: The command that publishes the message, encoded; for a message with history, the
            part of it that no connection changes.
        since: The time at which the message was published.
        confirmation: An object by which the publisher learns the outcome; None if nobody waits.
        is_probe: Whether the message is internal and is not counted.
        payload: The message, if it goes to a history.
        may_have_arrived: Whether the command was sent, and its connection lost before the answer.
    """

    channel: bytes
    command: bytes
    since: float
    confirmation: T | None
    is_probe: bool = False
    payload: bytes | None = None
    may_have_arrived: bool = False

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.command) + (0 if self.payload is None else len(self.payload))

    @property
    def is_bound(self) -> bool:
        """True if the message must be sent again, because a history may have it."""
        return self.may_have_arrived and self.payload is not None


class PublishQueue(Generic[T]):
    """Messages in the order of publishing, limited in bytes.

    A message waits, then it is in flight (sent and not confirmed), then it is answered. When the
    connection is lost, messages in flight wait again.

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

    def __iter__(self) -> Iterator[QueuedMessage[T]]:
        return chain(self._in_flight, self._waiting)

    @property
    def size(self) -> int:
        """Size in bytes of all messages that wait or are in flight."""
        return self._size

    @property
    def first(self) -> QueuedMessage[T] | None:
        """The first message in flight, or else the first that waits; None if there is none."""
        for queue in (self._in_flight, self._waiting):
            # No iteration and no check before: another thread may ask, and the queue may change.
            with contextlib.suppress(IndexError):
                return queue[0]
        return None

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
        """The time of the first waiting message that may be given up; None if there is none.

        A bound message counts while somebody waits for its confirmation.
        """
        times = (
            item.since
            for item in self._waiting
            if not item.is_bound or item.confirmation is not None
        )
        return next(times, None)

    def push(self, item: QueuedMessage[T]) -> bool:
        """Add a message, and return whether there was room for it."""
        if self._size + item.size > self._max_bytes:
            return False
        self._waiting.append(item)
        self._size += item.size
        return True

    def take(self, batch_bytes: int) -> list[QueuedMessage[T]]:
        """Mark the next messages as in flight, and return them.

        Args:
            batch_bytes: The size at which the batch is complete; the last message may exceed it.
        """
        taken = []
        while self._waiting and batch_bytes > 0:
            item = self._waiting.popleft()
            self._in_flight.append(item)
            taken.append(item)
            batch_bytes -= item.size
        return taken

    def pop_answered(self) -> QueuedMessage[T]:
        """Remove and return the message that the next reply answers."""
        # Redis answers the commands of a connection in the order in which they were sent.
        item = self._in_flight.popleft()
        self._size -= item.size
        return item

    def put_back(self, item: QueuedMessage[T]) -> None:
        """Make an answered message the first waiting one, before all that are in flight."""
        self.requeue_in_flight()
        self._waiting.appendleft(item)
        self._size += item.size

    def requeue_in_flight(self) -> None:
        """Move all messages in flight back to the front of the waiting ones, in order."""
        for item in self._in_flight:
            item.may_have_arrived = True
        # `extendleft` inserts one by one and would reverse the order.
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight.clear()

    def overdue(self, time: float) -> list[QueuedMessage[T]]:
        """Return the bound messages that were published at a time or before it; they stay."""
        until = takewhile(lambda item: item.since <= time, self._waiting)
        return [item for item in until if item.is_bound]

    def drop_until(self, time: float) -> list[QueuedMessage[T]]:
        """Remove and return the waiting messages of a time or before it, without the bound ones."""
        bound = self.overdue(time)
        dropped = []
        while self._waiting and self._waiting[0].since <= time:
            item = self._waiting.popleft()
            if not item.is_bound:
                self._size -= item.size
                dropped.append(item)
        self._waiting.extendleft(reversed(bound))
        return dropped

    def take_displaced(self, stays: Callable[[QueuedMessage[T]], bool]) -> list[QueuedMessage[T]]:
        """Remove and return the messages that do not stay, in order; the others all wait."""
        self.requeue_in_flight()
        displaced = [item for item in self._waiting if not stays(item)]
        self._waiting = deque(filter(stays, self._waiting))
        self._size -= sum(item.size for item in displaced)
        return displaced

    def drop_all(self) -> list[QueuedMessage[T]]:
        """Remove and return all messages, in order."""
        self.requeue_in_flight()
        dropped = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        return dropped
