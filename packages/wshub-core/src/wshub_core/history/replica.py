"""The replica: the state of one shared stream on this hub."""

import asyncio
from typing import NamedTuple

from wshub_core.values.history import HistoryLimits


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
        sync: The task that brings the replica up to date; None if it is.
        loading: The task that loads older messages; None if there is none.
        owes_notice: Whether clients have to be told the position: the stream has a new epoch, or
            the history was unavailable when a client asked for it.
    """

    __slots__ = (
        "epoch",
        "first_kept",
        "limits",
        "loading",
        "offset",
        "owes_notice",
        "sync",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, limits: HistoryLimits) -> None:
        self.limits = limits
        self.epoch = ""
        self.offset = 0
        self.first_kept = 1
        self.waiting: list[StoredMessage] = []
        self.waiting_bytes = 0
        self.sync: asyncio.Task[None] | None = None
        self.loading: asyncio.Task[bool] | None = None
        self.owes_notice = False

    @property
    def is_current(self) -> bool:
        """True if the position is known and no earlier message is missing."""
        return bool(self.epoch) and self.sync is None

    def move_to(self, epoch: str, offset: int) -> None:
        """Set the position."""
        self.epoch = epoch
        self.offset = offset

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
        self.waiting_bytes += len(message.payload)
        while self.waiting_bytes > self.limits.bytes and len(self.waiting) > 1:
            self.waiting_bytes -= len(self.waiting.pop(0).payload)

    def take_waiting(self) -> list[StoredMessage]:
        """Remove and return the messages that wait."""
        waiting, self.waiting = self.waiting, []
        self.waiting_bytes = 0
        return waiting

    def start_behind(self, epoch: str, offset: int) -> int:
        """Return the offset from which to go on in a stream whose position was not known.

        Args:
            epoch: The epoch of the stream.
            offset: Its newest offset. Messages that wait have come since the subscription, so the
                position is before them.
        """
        return min([offset, *(each.offset - 1 for each in self.waiting if each.epoch == epoch)])
