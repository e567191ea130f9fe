"""The stream of one channel, and the streams of a hub, compared with simple models."""

import math
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from wshub_core import HistoryLimits
from wshub_core.history.streams import Streams
from wshub_core.protocol.stream import Stream
from wshub_core.testing import ManualClock

SECONDS = 100
MESSAGE_OVERHEAD = 64
STREAM_OVERHEAD = 1_024


def memory_of(stream: Stream) -> int:
    """Compute the memory of a stream anew, from all its frames."""
    frames = stream.read(stream.first - 1, 10**9, 10**9)
    return sum(map(len, frames)) + MESSAGE_OVERHEAD * len(frames) + STREAM_OVERHEAD


@dataclass
class Known:
    """A message of the model.

    Its age counts from a time that is not exactly known for messages that were prepended.
    """

    frame: bytes
    earliest: float
    latest: int


class StreamMachine(RuleBasedStateMachine):
    """A stream beside a list of all messages that it may still have."""

    @initialize(messages=st.integers(1, 12), size=st.integers(1, 200))
    def start(self, messages: int, size: int) -> None:
        self.limits = HistoryLimits(messages=messages, bytes=size, seconds=SECONDS)
        self.stream = Stream("epoch", self.limits, offset=50)
        self.known: list[Known] = []
        self.offset = 50
        self.number = 0
        self.now = 0

    def next_frame(self, size: int) -> bytes:
        self.number += 1
        return (b"%d." % self.number).ljust(size, b"x")

    @rule(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8))
    def append(self, sizes: list[int]) -> None:
        for size in sizes:
            frame = self.next_frame(size)
            self.stream.append(frame, self.now)
            self.offset += 1
            self.known.append(Known(frame, self.now, self.now))
            self.note_trimmed()

    @precondition(lambda self: self.stream.first > 1)
    @rule(data=st.data())
    def prepend(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, min(self.stream.first - 1, 10)))
        frames = [self.next_frame(data.draw(st.integers(1, 60))) for _ in range(count)]
        # They leave with the oldest of the other messages, or earlier: the store knows their age.
        latest = self.known[0].latest if self.known else self.now
        self.stream.prepend(frames, self.now)
        self.known[:0] = [Known(frame, -math.inf, latest) for frame in frames]
        self.note_trimmed()

    @rule(seconds=st.sampled_from([1, 2, 30, SECONDS, SECONDS + 1, 3 * SECONDS]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.stream.trim(self.now)
        self.note_trimmed()

    def note_trimmed(self) -> None:
        """Check how many messages have left, and remove them from the model."""
        limits, kept = self.limits, len(self.stream)
        by_size = 0
        while by_size < min(len(self.known), limits.messages) and (
            sum(len(each.frame) for each in self.known[-by_size - 1 :]) <= limits.bytes
        ):
            by_size += 1
        # Messages leave between their maximum age and 1 % later.
        young = sum(self.now - each.earliest <= SECONDS for each in self.known)
        not_old = sum(self.now - each.latest < SECONDS * 1.01 for each in self.known)
        assert min(by_size, young) <= kept <= min(by_size, not_old)
        del self.known[: len(self.known) - kept]

    @invariant()
    def the_position_is_right(self) -> None:
        assert self.stream.offset == self.offset
        assert self.stream.first == self.offset + 1 - len(self.known)
        assert len(self.stream) == len(self.known)

    @invariant()
    def the_sizes_are_exact(self) -> None:
        assert self.stream.size == sum(len(each.frame) for each in self.known)
        assert self.stream.memory == memory_of(self.stream)

    @rule(data=st.data(), messages=st.integers(1, 15), size=st.integers(1, 300))
    def read(self, data: st.DataObject, messages: int, size: int) -> None:
        skipped = data.draw(st.integers(0, len(self.known)))
        frames = self.stream.read(self.stream.first - 1 + skipped, messages, size)
        rest = [each.frame for each in self.known[skipped:]]
        assert list(frames) == rest[: len(frames)]
        assert bool(frames) == bool(rest)
        if len(frames) > 1:
            assert len(frames) <= messages
            assert sum(map(len, frames)) <= size
        if len(frames) < len(rest):
            # The next message would have been too much.
            is_full = sum(map(len, rest[: len(frames) + 1])) > size
            assert len(frames) == messages or is_full


StreamMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
TestStream = StreamMachine.TestCase


class StreamsMachine(RuleBasedStateMachine):
    """The streams of a hub beside the order of their last messages."""

    channels = st.sampled_from([f"c{number}" for number in range(6)])

    @initialize(max_bytes=st.integers(1, 20_000))
    def start(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.clock = ManualClock()
        self.dropped = 0
        self.subscribed: set[str] = set()
        self.streams = Streams(
            self.clock, max_bytes, self.subscribed.__contains__, self.note_dropped
        )
        self.present: list[str] = []
        self.number = 0

    def note_dropped(self) -> None:
        self.dropped += 1

    def get(self, channel: str) -> Stream:
        """Return a stream of the hub, as it is; a read would trim it."""
        stream = self.streams._streams[channel]
        assert isinstance(stream, Stream)
        return stream

    def add(self, channel: str) -> None:
        limits = HistoryLimits(messages=50, bytes=8_000, seconds=SECONDS)
        was_there = channel in self.present
        before = self.dropped
        self.streams.put(channel, Stream("epoch", limits, offset=1_000))
        assert self.dropped - before == was_there
        if was_there:
            self.present.remove(channel)
        self.present.append(channel)

    @rule(channel=channels)
    def put(self, channel: str) -> None:
        self.add(channel)

    @rule(channel=channels, size=st.integers(1, 4_000))
    def append(self, channel: str, size: int) -> None:
        if channel not in self.present:
            self.add(channel)
        before = self.dropped
        self.streams.append(channel, b"x" * size)
        self.present.remove(channel)
        self.present.append(channel)
        self.note_bounded(channel, before)

    @rule(channel=channels, sizes=st.lists(st.integers(1, 2_000), max_size=5))
    def prepend(self, channel: str, sizes: list[int]) -> None:
        if channel in self.present:
            before = self.dropped
            self.streams.prepend(channel, [b"x" * size for size in sizes])
            self.note_bounded(channel, before)

    def note_bounded(self, newest: str, dropped_before: int) -> None:
        """Check that the streams that have left were the right ones."""
        kept = [channel for channel in self.present if channel in self.streams._streams]
        gone = [channel for channel in self.present if channel not in kept]
        assert newest in kept
        assert self.dropped - dropped_before == len(gone)
        assert self.streams.memory <= self.max_bytes or len(self.streams) == 1
        self.present = list(self.streams._streams)
        assert sorted(self.present) == sorted(kept)

    @rule(channel=channels)
    def drop(self, channel: str) -> None:
        before = self.dropped
        self.streams.drop(channel)
        assert self.dropped - before == (channel in self.present)
        if channel in self.present:
            self.present.remove(channel)

    @rule(channel=channels)
    def read(self, channel: str) -> None:
        stream = self.streams.get(channel)
        assert (stream is not None) == (channel in self.present)

    @rule(channel=channels)
    def subscribe(self, channel: str) -> None:
        self.subscribed.add(channel)

    @rule(channel=channels)
    def unsubscribe(self, channel: str) -> None:
        self.subscribed.discard(channel)

    @rule(seconds=st.sampled_from([1, 50, 101, 1_000, 5_000]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_memory_is_exact(self) -> None:
        if hasattr(self, "streams"):
            expected = sum(memory_of(self.get(channel)) for channel in self.present)
            assert self.streams.memory == expected
            assert len(self.streams) == len(self.present)


StreamsMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestStreams = StreamsMachine.TestCase


def new_streams(clock: ManualClock, max_bytes: int = 10**9) -> tuple[Streams, set[str]]:
    subscribed: set[str] = set()
    return Streams(clock, max_bytes, subscribed.__contains__, lambda: None), subscribed


def fill(streams: Streams, channel: str, count: int = 1) -> None:
    if streams.get(channel) is None:
        streams.put(channel, Stream("epoch", HistoryLimits(seconds=SECONDS)))
    for _ in range(count):
        streams.append(channel, b"x" * 100)


def test_the_stream_that_has_grown_least_recently_is_dropped_first() -> None:
    streams, _ = new_streams(ManualClock(), max_bytes=4 * (STREAM_OVERHEAD + 164) + 100)
    for channel in ("a", "b", "c", "d", "a"):
        fill(streams, channel)
    assert streams.get("b") is None
    assert all(streams.get(channel) is not None for channel in "acd")


def test_one_stream_may_exceed_the_maximum_size_alone() -> None:
    streams, _ = new_streams(ManualClock(), max_bytes=10)
    fill(streams, "a", 100)
    assert [streams.get("a") is not None, len(streams)] == [True, 1]
    fill(streams, "b")
    assert [streams.get("a"), len(streams)] == [None, 1]


def test_a_silent_stream_is_dropped_when_nobody_needs_its_position() -> None:
    clock = ManualClock()
    streams, subscribed = new_streams(clock)
    for channel in ("silent", "subscribed"):
        fill(streams, channel)
    subscribed.add("subscribed")
    clock.advance(SECONDS * 2)
    fill(streams, "other")
    # All messages have gone, and both positions are still known.
    for channel in ("silent", "subscribed"):
        stream = streams.get(channel)
        assert stream is not None
        assert (len(stream), stream.offset) == (0, 1)
    clock.advance(SECONDS * 2 + 3_700)
    fill(streams, "other")
    assert streams.get("silent") is None
    assert streams.get("subscribed") is not None


@given(counts=st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_removed_messages_take_no_more_room_than_the_kept_ones(counts: list[int]) -> None:
    stream = Stream("epoch", HistoryLimits(messages=100))
    for count in counts:
        for _ in range(count):
            stream.append(b"x", 0)
        assert len(stream._frames) <= 2 * len(stream) + 1
