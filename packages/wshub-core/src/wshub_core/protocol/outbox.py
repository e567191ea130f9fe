"""The outbox: what waits to be written to one connection."""

import sys

from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.values.config import Overflow


class Outbox:
    """The messages that wait for one connection, in order and bounded in bytes.

    Bytes that the transport has taken but not passed on yet still count, so that the bound covers
    all that is held for the connection. They cannot be dropped any more.

    Args:
        limit: The most bytes that may wait.
        overflow: What to do with a message that does not fit.

    Attributes:
        messages: What waits, oldest first.
        queued_bytes: The bytes of these messages.
        unsent_bytes: The bytes that the transport holds.
        position: The number of the last fan-out that this outbox has been served from.
        dropped: How many messages were dropped because they did not fit.
    """

    __slots__ = (
        "_limit",
        "_overflow",
        "dropped",
        "messages",
        "position",
        "queued_bytes",
        "unsent_bytes",
    )

    def __init__(self, limit: int, overflow: Overflow = "close") -> None:
        self._limit = limit
        self._overflow = overflow
        self.queued_bytes = 0
        self.unsent_bytes = 0
        self.messages: list[PreparedMessage] = []
        self.position = 0
        self.dropped = 0

    def push(self, message: PreparedMessage) -> bool:
        """Add a message; return False, and change nothing, if it does not fit."""
        queued_bytes = self.queued_bytes + message.size
        if queued_bytes + self.unsent_bytes > self._limit:
            return False
        self.queued_bytes = queued_bytes
        self.messages.append(message)
        return True

    def overflow(self, message: PreparedMessage) -> bool:
        """Do what the policy says with a message that does not fit.

        Returns:
            False if the policy is to close the connection, which is for the caller to do.
        """
        if self._overflow == "close":
            return False
        if self._overflow == "drop_oldest" and message.size + self.unsent_bytes <= self._limit:
            self._make_room(message.size)
            self.push(message)
        else:
            self.dropped += 1
        return True

    def take(self, most_bytes: int) -> list[PreparedMessage]:
        """Take messages out, in order, to hand them to the transport.

        Args:
            most_bytes: How many bytes to take; at least one message is taken.
        """
        if self.queued_bytes <= most_bytes:
            messages, self.messages = self.messages, []
            self.queued_bytes = 0
            return messages
        count = taken_bytes = 0
        for message in self.messages:
            if count and taken_bytes + message.size > most_bytes:
                break
            taken_bytes += message.size
            count += 1
        taken = self.messages[:count]
        del self.messages[:count]
        self.queued_bytes -= taken_bytes
        return taken

    def close(self) -> None:
        """Drop the waiting messages, refuse further ones, and count every fan-out as served."""
        self.messages.clear()
        self.queued_bytes = 0
        self._limit = -1
        self._overflow = "close"
        self.position = sys.maxsize

    def _make_room(self, size: int) -> None:
        count = 0
        while self.queued_bytes + self.unsent_bytes + size > self._limit:
            self.queued_bytes -= self.messages[count].size
            count += 1
        del self.messages[:count]
        self.dropped += count
