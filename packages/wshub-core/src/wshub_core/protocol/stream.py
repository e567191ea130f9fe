"""The stream: the messages of one channel's history, numbered without gaps."""

from collections import deque
from collections.abc import Sequence

from wshub_core.values.history import HistoryLimits

_MESSAGE_OVERHEAD = 64
"""Bytes of memory that a message takes in addition to its frame, about."""

STREAM_OVERHEAD = 1_024
"""Bytes of memory that a stream takes in addition to its messages, about."""

_KEPT_POSITION_SECONDS = 3_600.0
"""Minimum time in seconds for which an empty stream is kept."""

_TIMES_PER_STREAM = 100
"""Number of times that a stream remembers: messages leave up to 1 % of the maximum age late."""


class Stream:
    """The newest messages of a channel, and the position of each.

    The messages have the offsets from `first` to `offset`, without gaps. Call `trim` before a read:
    it removes the messages that are too old.

    Args:
        epoch: The name of the stream.
        limits: The size of the history.
        offset: Offset of the newest message so far, which the stream does not have.

    Attributes:
        epoch: The name of the stream.
        offset: Offset of the newest message.
        size: Size of the kept frames, in bytes.
        memory: Size of the stream in memory, in bytes, about.
    """

    __slots__ = (
        "_frames",
        "_limits",
        "_removed",
        "_times",
        "_used_at",
        "epoch",
        "memory",
        "offset",
        "size",
    )

    def __init__(self, epoch: str, limits: HistoryLimits, offset: int = 0) -> None:
        self.epoch = epoch
        self.offset = offset
        self.size = 0
        self.memory = STREAM_OVERHEAD
        self._limits = limits
        self._used_at = float("-inf")
        # The first `_removed` frames are None. They are deleted together, because each deletion at
        # the front of a list moves the rest.
        self._frames: list[bytes | None] = []
        self._removed = 0
        # Times in seconds, each with the offset of the first message that came at or after it.
        self._times: deque[tuple[float, int]] = deque()

    @property
    def first(self) -> int:
        """Offset of the oldest kept message; ``offset + 1`` if none is kept."""
        return self.offset + 1 - len(self)

    def __len__(self) -> int:
        return len(self._frames) - self._removed

    def append(self, frame: bytes, now: float) -> None:
        """Append the message with the next offset."""
        self._used_at = now
        self.offset += 1
        self._frames.append(frame)
        size = len(frame)
        self.size += size
        self.memory += size + _MESSAGE_OVERHEAD
        times = self._times
        if not times or now - times[-1][0] >= self._limits.seconds / _TIMES_PER_STREAM:
            times.append((now, self.offset))
        self.trim(now)

    def prepend(self, frames: Sequence[bytes], now: float) -> None:
        """Add older messages, which end directly before `first`.

        The store of these messages knows their age. Here their age counts from now.
        """
        self._frames[: self._removed] = frames
        self._removed = 0
        size = sum(map(len, frames))
        self.size += size
        self.memory += size + _MESSAGE_OVERHEAD * len(frames)
        if self._times:
            self._times[0] = (self._times[0][0], self.first)
        elif frames:
            self._times.append((now, self.first))
        self.trim(now)

    def trim(self, now: float) -> None:
        """Remove the messages that exceed the limits."""
        times, limits = self._times, self._limits
        while self.size > limits.bytes or len(self._frames) - self._removed > limits.messages:
            self._remove_oldest()
        # The messages of the first time came before the second time.
        while times and times[0][0] < now - limits.seconds and self._is_first_time_over(now):
            times.popleft()
            until = times[0][1] if times else self.offset + 1
            while self.first < until:
                self._remove_oldest()
        if self._removed > len(self._frames) // 2:
            del self._frames[: self._removed]
            self._removed = 0

    def read(self, after: int, max_messages: int, max_bytes: int) -> Sequence[bytes]:
        """Return the frames behind an offset, oldest first.

        Args:
            after: The offset, at least ``first - 1``.
            max_messages: Maximum number of frames.
            max_bytes: Maximum size of the frames together; the result has at least one frame, if
                there is one.
        """
        start = self._removed + after + 1 - self.first
        frames: list[bytes] = self._frames[start : start + max_messages]  # type: ignore[assignment]
        size = 0
        for count, frame in enumerate(frames):
            size += len(frame)
            if count and size > max_bytes:
                return frames[:count]
        return frames

    def keep_from(self, now: float) -> None:
        """Count the time for which an empty stream is kept from now on."""
        self._used_at = now

    def is_outdated(self, now: float) -> bool:
        """Return whether all messages were too old long ago.

        Until then, the position alone shows a client that nothing is missing.
        """
        return self._used_at < now - 2 * self._limits.seconds - _KEPT_POSITION_SECONDS

    def _is_first_time_over(self, now: float) -> bool:
        """Return whether all messages of the first time are too old."""
        end = self._times[0][0] + self._limits.seconds / _TIMES_PER_STREAM
        if len(self._times) > 1:
            end = min(end, self._times[1][0])
        return end <= now - self._limits.seconds

    def _remove_oldest(self) -> None:
        frame = self._frames[self._removed]
        assert frame is not None, "removed frames are before this one"
        self.size -= len(frame)
        self.memory -= len(frame) + _MESSAGE_OVERHEAD
        self._frames[self._removed] = None
        self._removed += 1
