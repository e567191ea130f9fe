"""The replica: the state of one shared stream on this hub."""

import asyncio
import sys
from collections import deque
from typing import NamedTuple

from wshub_core.values.history import HistoryLimits

_MAX_OWN = 10_000
"""Number of own messages that a replica recognizes when they come back."""


class StoredMessage(NamedTuple):
    """A message that comes from the shared history.

    Attributes:
        epoch: The epoch of its stream.
        offset: Its offset.
        payload: One JSON object.
        is_own: Whether this hub has published it.
    """

    epoch: str
    offset: int
    payload: bytes
    is_own: bool


class Replica:
    """The position of this hub in a shared stream, and the messages that wait for earlier ones.

    Args:
        limits: The size of the history.

    Attributes:
        limits: The size of the history.
        epoch: The epoch of the last delivered message; empty before the first message or read.
        offset: The offset of the last delivered message.
        first_kept: Offset of the oldest message that the store had when it was read last.
        waiting: Messages that came while `sync` runs.
        arrived: Number of messages that have ever waited.
        sync: The task that brings the replica up to date; None if it is. It returns whether the
            store could be read.
        is_outdated: Whether messages may have been lost since the running `sync` began to read.
        loading: The task that loads older messages; None if there is none.
        wanted: Offset behind which the next task loads messages.
        owes_notice: Whether clients have to be told the position: the stream has a new epoch, or
            the history was unavailable when a client asked for it.
    """

    __slots__ = (
        "_own",
        "_waiting_bytes",
        "arrived",
        "epoch",
        "first_kept",
        "is_outdated",
        "limits",
        "loading",
        "offset",
        "owes_notice",
        "sync",
        "waiting",
        "wanted",
    )

    def __init__(self, limits: HistoryLimits) -> None:
        self.limits = limits
        self.epoch = ""
        self.offset = 0
        self.first_kept = 1
        self.waiting: deque[StoredMessage] = deque()
        self.arrived = 0
        self.sync: asyncio.Task[bool] | None = None
        self.is_outdated = False
        self.loading: asyncio.Task[bool] | None = None
        self.wanted = sys.maxsize
        self.owes_notice = False
        self._waiting_bytes = 0
        # The hashes of messages that this hub has appended and that have not come back.
        self._own: dict[int, None] = {}

    @property
    def is_current(self) -> bool:
        """True if the position is known and no earlier message is missing."""
        return bool(self.epoch) and self.sync is None

    def move_to(self, epoch: str, offset: int) -> None:
        """Set the position. Nothing is known of the messages of a new epoch but their offsets."""
        if epoch != self.epoch:
            self.first_kept = 1
        self.epoch = epoch
        self.offset = offset

    def note_first_kept(self, offset: int) -> None:
        """Record the offset of the oldest message that can be had."""
        self.first_kept = offset

    def is_next(self, message: StoredMessage) -> bool:
        """Return whether a message follows the position directly."""
        return message.epoch == self.epoch and message.offset == self.offset + 1

    def is_known(self, message: StoredMessage) -> bool:
        """Return whether a message was delivered before."""
        return message.epoch == self.epoch and message.offset <= self.offset

    def wait(self, message: StoredMessage) -> None:
        """Keep a message until the replica is up to date.

        Above the size of the history, the oldest ones are dropped: they can be read again.
        """
        self.waiting.append(message)
        self.arrived += 1
        self._waiting_bytes += len(message.payload)
        while self._waiting_bytes > self.limits.bytes and len(self.waiting) > 1:
            self.pop_waiting()

    def pop_waiting(self) -> StoredMessage:
        """Remove and return the message that has waited longest."""
        message = self.waiting.popleft()
        self._waiting_bytes -= len(message.payload)
        return message

    @property
    def first_waiting(self) -> int:
        """Number of messages that have waited before the first one that waits now."""
        return self.arrived - len(self.waiting)

    def start_behind(self, epoch: str, offset: int) -> int:
        """Return the offset from which to go on in a stream whose position was not known.

        Args:
            epoch: The epoch of the stream.
            offset: Its newest offset. Messages that wait have come since the subscription, so the
                position is before them.
        """
        return min([offset, *(each.offset - 1 for each in self.waiting if each.epoch == epoch)])

    def note_own(self, payload: bytes) -> None:
        """Record that this hub appends a message."""
        self._own[hash(payload)] = None
        if len(self._own) > _MAX_OWN:
            del self._own[next(iter(self._own))]

    def take_own(self, payload: bytes) -> bool:
        """Return whether this hub has appended a message, and forget it."""
        return self._own.pop(hash(payload), self) is None
