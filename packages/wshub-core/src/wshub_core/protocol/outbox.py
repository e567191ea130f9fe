"""The outbox: the messages that wait to be written to one connection."""

import sys

from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.values.config import Overflow


class Outbox:
    """The messages that wait for one connection, in order and bounded in bytes.

    The bound covers all bytes that are held for the connection. It therefore includes the bytes
    that the transport holds, which cannot be dropped any more.

    Args:
        limit: Most bytes that may wait.
        overflow: The policy for a message that exceeds the limit.

    Attributes:
        messages: The waiting messages, oldest first.
        queued_bytes: Bytes of the waiting messages.
        unsent_bytes: Bytes that the transport has taken and not yet passed to the kernel.
        position: Number of the last fan-out that was applied to this outbox.
        dropped: Number of messages that were dropped because of the limit.
    """

    # Slots save memory: there is one outbox per connection.
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

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return self._limit < 0

    def takes_at_once(self, size: int) -> bool:
        """Return whether messages of a size fit and would be the only ones that wait."""
        return not self.messages and self.unsent_bytes + size <= self._limit

    def push(self, message: PreparedMessage) -> bool:
        """Add a message; return False and change nothing if it exceeds the limit."""
        queued_bytes = self.queued_bytes + message.size
        if queued_bytes + self.unsent_bytes > self._limit:
            return False
        self.queued_bytes = queued_bytes
        self.messages.append(message)
        return True

    def overflow(self, message: PreparedMessage) -> bool:
        """Apply the overflow policy to a message that exceeds the limit.

        Returns:
            False if the caller must close the connection: under the policy ``close``, and if there
            is no room for a message that must not be dropped.
        """
        if self._overflow == "close":
            return False
        # Dropping old messages makes room only if the message fits beside the unsent bytes.
        if (
            message.is_kept or self._overflow == "drop_oldest"
        ) and message.size + self.unsent_bytes <= self._limit:
            self._make_room(message.size)
            if self.push(message):
                return True
        if not message.is_kept:
            self.dropped += 1
        return not message.is_kept

    def pop(self, max_bytes: int) -> list[PreparedMessage]:
        """Remove messages from the front and return them, for the transport.

        Args:
            max_bytes: Most bytes to return; the result has at least one message.
        """
        if self.queued_bytes <= max_bytes:
            # The usual case: the whole list is handed over without a copy.
            messages, self.messages = self.messages, []
            self.queued_bytes = 0
            return messages
        count = size = 0
        for message in self.messages:
            if count and size + message.size > max_bytes:
                break
            size += message.size
            count += 1
        messages = self.messages[:count]
        del self.messages[:count]
        self.queued_bytes -= size
        return messages

    def close(self) -> None:
        """Drop the waiting messages and refuse all further messages."""
        self.messages.clear()
        self.queued_bytes = 0
        # No message fits, and no fan-out has a higher number, so delivery skips this outbox.
        self._limit = -1
        self._overflow = "close"
        self.position = sys.maxsize

    def _make_room(self, size: int) -> None:
        """Drop the oldest messages that need not be kept, until a message of a size fits."""
        count = 0
        kept = []
        for message in self.messages:
            if self.queued_bytes + self.unsent_bytes + size <= self._limit:
                break
            count += 1
            if message.is_kept:
                kept.append(message)
            else:
                self.queued_bytes -= message.size
        self.messages[:count] = kept
        self.dropped += count - len(kept)
