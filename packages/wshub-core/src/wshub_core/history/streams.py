"""The streams of a hub, bounded in memory together."""

from collections.abc import Callable, Sequence
from itertools import islice

from wshub_core.loop.clock import Clock
from wshub_core.protocol.stream import Stream

_CHECKED_STREAMS = 100
"""Number of streams whose oldest messages are checked together."""

_CHECK_SECONDS = 1.0
"""Minimum time in seconds between two checks. An append starts a check, so no timer is needed."""


class Streams:
    """The streams of all channels, by name.

    Above the maximum size, the stream that has grown least recently is dropped. A stream is also
    dropped when all its messages were too old long ago and its channel has no subscribers.

    Args:
        clock: The hub's clock.
        max_bytes: Maximum size of all streams in memory, in bytes.
        has_subscribers: Returns whether a channel has subscribers.
        on_drop: Called when a stream was dropped.
    """

    def __init__(
        self,
        clock: Clock,
        max_bytes: int,
        has_subscribers: Callable[[str], object],
        on_drop: Callable[[], None],
    ) -> None:
        self._has_subscribers = has_subscribers
        self._on_drop = on_drop
        self._clock = clock
        self._max_bytes = max_bytes
        # In the order of the last append.
        self._streams: dict[str, Stream] = {}
        self._memory = 0
        self._next_check = clock.time()

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def memory(self) -> int:
        """Size of all streams in memory, in bytes, about."""
        return self._memory

    def get(self, channel: str) -> Stream | None:
        """Return the stream of a channel without outdated messages; None if there is none."""
        stream = self._streams.get(channel)
        if stream is not None:
            before = stream.memory
            stream.trim(self._clock.time())
            self._memory += stream.memory - before
        return stream

    def put(self, channel: str, stream: Stream) -> None:
        """Add the stream of a channel; it replaces the present one."""
        self.drop(channel)
        stream.keep_from(self._clock.time())
        self._streams[channel] = stream
        self._memory += stream.memory

    def drop(self, channel: str) -> None:
        """Drop the stream of a channel, if there is one."""
        stream = self._streams.pop(channel, None)
        if stream is not None:
            self._memory -= stream.memory
            self._on_drop()

    def append(self, channel: str, frame: bytes) -> None:
        """Append a message to the stream of a channel, which must exist."""
        stream = self._streams.pop(channel)
        self._streams[channel] = stream
        before = stream.memory
        now = self._clock.time()
        stream.append(frame, now)
        self._memory += stream.memory - before
        if self._memory > self._max_bytes or now >= self._next_check:
            self._bound(channel)

    def prepend(self, channel: str, frames: Sequence[bytes]) -> None:
        """Add older messages to the stream of a channel, which must exist."""
        stream = self._streams[channel]
        before = stream.memory
        stream.prepend(frames, self._clock.time())
        self._memory += stream.memory - before
        self._bound(channel)

    def _bound(self, newest: str) -> None:
        """Drop the oldest streams until the rest fits, and those that nobody needs any more."""
        while self._memory > self._max_bytes and len(self._streams) > 1:
            self.drop(next(channel for channel in self._streams if channel != newest))
        now = self._clock.time()
        if now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            for channel, stream in tuple(islice(self._streams.items(), _CHECKED_STREAMS)):
                self.get(channel)  # removes outdated messages
                if channel == newest or not stream.is_outdated(now):
                    continue
                if self._has_subscribers(channel):
                    # Its position is still needed. Behind the others, so that all get their turn.
                    self._streams[channel] = self._streams.pop(channel)
                else:
                    self.drop(channel)
