"""The history of one hub, in its memory."""

from collections.abc import Callable, Sequence

from wshub_core.history.channel_history import Deliver
from wshub_core.history.positions import add_position, decode_frame, new_epoch
from wshub_core.history.streams import Streams
from wshub_core.loop.clock import Clock
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.protocol.stream import Stream
from wshub_core.values.history import HistoryLimits, HistoryPage


class LocalHistory:
    """The history of one hub; see `ChannelHistory`. It ends with the hub.

    Args:
        clock: The hub's clock.
        max_bytes: Maximum size of all streams in memory, in bytes.
        has_subscribers: Returns whether a channel has subscribers.
        deliver: Delivers a message to subscribers.
    """

    def __init__(
        self,
        clock: Clock,
        max_bytes: int,
        has_subscribers: Callable[[str], object],
        deliver: Deliver,
    ) -> None:
        self.streams = Streams(clock, max_bytes, has_subscribers, self._begin_epoch)
        self._deliver = deliver
        # The epoch of new streams. Streams may share it, because a position belongs to one channel.
        # A channel whose stream was dropped must not get the same epoch again.
        self._epoch = new_epoch()
        # Channels with subscribers and without a message. Only a publish adds a stream to
        # `streams`: subscribers cannot displace the histories of other channels.
        self._unpublished: dict[str, Stream] = {}

    def publish(self, channel: str, payload: bytes, limits: HistoryLimits) -> None:
        """Append a message, and deliver it; see `ChannelHistory.publish`."""
        stream = self.streams.get(channel)
        if stream is None:
            stream = self.open(channel, limits)
            del self._unpublished[channel]
            self.streams.put(channel, stream)
        prepared = PreparedMessage(add_position(payload, stream.epoch, stream.offset + 1))
        # No other code may run between these two calls: a subscriber that is added in between would
        # lose the message, or get it twice.
        self.streams.append(channel, prepared.frame)
        self._deliver(channel, prepared, True)

    def open(self, channel: str, limits: HistoryLimits) -> Stream:
        """Return the stream of a channel; see `ChannelHistory.open`."""
        stream = self.streams.get(channel)
        if stream is None:
            stream = self._unpublished.setdefault(channel, Stream(self._epoch, limits))
        return stream

    def first_kept(self, channel: str, stream: Stream) -> int:
        """Return the first offset of the stream, which has all messages."""
        return stream.first

    def load(self, channel: str, after: int) -> None:
        """Do nothing: the stream has all messages."""

    def refresh(self, channel: str) -> None:
        """Do nothing: there is no store."""

    async def read(
        self, channel: str, limits: HistoryLimits, since: int, limit: int, reverse: bool
    ) -> HistoryPage:
        """Return messages of the history; see `Hub.history`."""
        stream = self.streams.get(channel)
        if stream is None:
            return HistoryPage(epoch="", first=1, offset=0, messages=())
        after = max(since, stream.first - 1)
        if reverse:
            after = max(after, stream.offset - limit)
        return make_page(channel, stream, after, stream.read(after, limit, limits.bytes), reverse)

    async def clear(self, channel: str, limits: HistoryLimits) -> str | None:
        """Begin a new stream; see `ChannelHistory.clear`."""
        if self.streams.get(channel) is None:
            return None
        self.streams.drop(channel)
        stream = Stream(self._epoch, limits)
        self.streams.put(channel, stream)
        return stream.epoch

    def forget(self, channel: str, *, is_bridged: bool) -> None:
        """Drop the stream of a channel without subscribers; see `ChannelHistory.forget`."""
        self._unpublished.pop(channel, None)
        if is_bridged:
            # The stream will lack messages of other hubs, and must not look complete.
            self.streams.drop(channel)

    def _begin_epoch(self) -> None:
        self._epoch = new_epoch()


def make_page(
    channel: str, stream: Stream, after: int, frames: Sequence[bytes], reverse: bool
) -> HistoryPage:
    """Return a page of a stream.

    Args:
        channel: The channel.
        stream: The stream.
        after: The offset before the first frame.
        frames: The frames of the page, oldest first.
        reverse: Whether the newest message comes first.
    """
    messages = [
        decode_frame(frame, channel, stream.epoch, offset)
        for offset, frame in enumerate(frames, after + 1)
    ]
    if reverse:
        messages.reverse()
    return HistoryPage(
        epoch=stream.epoch, first=stream.first, offset=stream.offset, messages=tuple(messages)
    )
