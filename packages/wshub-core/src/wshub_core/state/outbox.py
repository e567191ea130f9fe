"""The outbox: what waits to be written to one connection."""

import sys

from wshub_core.state.prepared import PreparedMessage


class Outbox:
    """The messages that wait for one connection, in order and bounded in bytes.

    Bytes that the transport has taken but not passed on yet still count, so that the bound covers
    all that is held for the connection.

    Args:
        limit: The most bytes that may wait.

    Attributes:
        messages: What waits, oldest first.
        position: The number of the last fan-out that this outbox has been served from.
    """

    __slots__ = ("_limit", "_queued_bytes", "_unsent_bytes", "messages", "position")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queued_bytes = 0
        self._unsent_bytes = 0
        self.messages: list[PreparedMessage] = []
        self.position = 0

    def push(self, message: PreparedMessage) -> bool:
        """Add a message; return False, and change nothing, if that would pass the limit."""
        queued_bytes = self._queued_bytes + message.size
        if queued_bytes + self._unsent_bytes > self._limit:
            return False
        self._queued_bytes = queued_bytes
        self.messages.append(message)
        return True

    def take(self) -> list[PreparedMessage]:
        """Take all messages out, in order, to hand them to the transport."""
        messages, self.messages = self.messages, []
        self._queued_bytes = 0
        return messages

    def set_unsent(self, unsent_bytes: int) -> None:
        """Say how many bytes the transport holds now."""
        self._unsent_bytes = unsent_bytes

    def seal(self) -> None:
        """Drop what waits, refuse what comes, and count every fan-out as served."""
        self.messages.clear()
        self._limit = -1
        self._queued_bytes = 0
        self.position = sys.maxsize
