"""The bounded queue of messages that wait for a connection."""

from collections import deque
from dataclasses import dataclass

from wshub_core import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueLimits:
    """The bounds of the messages that wait to be sent; the oldest are dropped to keep them.

    Attributes:
        messages: The largest number of messages.
        bytes: The largest number of bytes of all messages together, encoded.
        age: The longest time that a message waits, in seconds.
    """

    messages: int = 1_000
    bytes: int = 1_048_576
    age: float = 60.0


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message that waits to be sent.

    Attributes:
        message: The message.
        text: The encoded message.
        since: The time at which it was queued, in seconds.
    """

    message: Message
    text: str
    since: float

    @property
    def size(self) -> int:
        """The number of bytes of the text."""
        return len(self.text.encode())


class SendQueue:
    """A queue of messages with bounds for their number, size and age.

    The current time comes in as an argument.

    Args:
        limits: The bounds.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._queued: deque[QueuedMessage] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, queued: QueuedMessage) -> int:
        """Add a message; return the number of dropped ones, which may include the new one."""
        self._queued.append(queued)
        self._bytes += queued.size
        dropped = 0
        while len(self._queued) > self._limits.messages or self._bytes > self._limits.bytes:
            self.take()
            dropped += 1
        return dropped

    def expire(self, now: float) -> int:
        """Drop the messages that are too old; return their number."""
        dropped = 0
        while self._queued and now - self._queued[0].since > self._limits.age:
            self.take()
            dropped += 1
        return dropped

    def take(self) -> QueuedMessage:
        """Remove and return the oldest message."""
        queued = self._queued.popleft()
        self._bytes -= queued.size
        return queued

    def put_back(self, queued: QueuedMessage) -> None:
        """Put a message that could not be sent in front of the others."""
        self._queued.appendleft(queued)
        self._bytes += queued.size
