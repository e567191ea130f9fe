"""What waits to be sent while there is no connection: bounded, and nothing goes in silence."""

from collections import deque
from dataclasses import dataclass

from wshub_core import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueLimits:
    """The bounds of what waits to be sent; the oldest is dropped for the newest.

    Attributes:
        messages: The most messages.
        bytes: The most bytes of all together, encoded.
        age: How long one waits at most, in seconds.
    """

    messages: int = 1_000
    bytes: int = 1_048_576
    age: float = 60.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits to be sent.

    Attributes:
        message: The message.
        text: The same, encoded.
        since: Since when it waits.
    """

    message: Message
    text: str
    since: float

    @property
    def size(self) -> int:
        """The bytes of the text."""
        return len(self.text.encode())


class SendQueue:
    """Messages in order, each with its age. Time comes in as an argument.

    Args:
        limits: The bounds.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: Waiting) -> int:
        """Add a message; return how many were dropped for it, itself perhaps among them."""
        self._waiting.append(waiting)
        self._bytes += waiting.size
        dropped = 0
        while len(self._waiting) > self._limits.messages or self._bytes > self._limits.bytes:
            self.take()
            dropped += 1
        return dropped

    def expire(self, now: float) -> int:
        """Drop what has become too old; return how many that were."""
        dropped = 0
        while self._waiting and now - self._waiting[0].since > self._limits.age:
            self.take()
            dropped += 1
        return dropped

    def take(self) -> Waiting:
        """Remove and return the next message."""
        waiting = self._waiting.popleft()
        self._bytes -= waiting.size
        return waiting

    def put_back(self, waiting: Waiting) -> None:
        """Make a message the next again, because it could not be sent."""
        self._waiting.appendleft(waiting)
        self._bytes += waiting.size
