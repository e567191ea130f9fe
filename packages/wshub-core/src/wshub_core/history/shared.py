"""The history that several hubs share: this hub's replicas of its streams."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from wshub_core.bridge.history_store import HistoryStore, StoredPage
from wshub_core.history.channel_history import Deliver
from wshub_core.history.positions import decode_frame
from wshub_core.history.replica import Replica, StoredMessage
from wshub_core.history.stored_payloads import prepare_stored
from wshub_core.history.streams import Streams
from wshub_core.logs import get_logger
from wshub_core.loop.tasks import Tasks
from wshub_core.protocol.stream import Stream
from wshub_core.values.errors import HistoryUnavailableError
from wshub_core.values.history import HistoryLimits, HistoryPage
from wshub_core.values.messages import Message

logger = get_logger("wshub.history")

_PAGE_MESSAGES = 1_000
"""Maximum number of messages of one read of the store."""

_SLICE_MESSAGES = 100
"""Number of messages between two turns of other tasks: about 2 ms of work."""

_OPEN_SECONDS = 2.0
"""Maximum time in seconds for which a subscriber waits until a replica is up to date."""

Notify: TypeAlias = Callable[[str, str, int], None]
"""Tells the subscribers of a channel its newest position: channel, epoch and offset."""


class SharedHistory:
    """The history that several hubs share; see `ChannelHistory`.

    The store gives each message its position, and every hub delivers the messages in the order of
    the offsets. The hub has a replica of each stream with subscribers here. The replica fills with
    the messages that arrive, and older messages are loaded once, when a client needs them. So the
    number of reads does not depend on the number of clients.

    A message that does not follow its predecessor shows that messages were lost on their way. The
    hub then reads what is missing, and the messages behind it wait.

    Args:
        store: The store.
        streams: The streams of the hub.
        deliver: Delivers a message to subscribers.
        notify: Tells subscribers a new position.
        tasks: The tasks of the hub.
        max_message_bytes: Maximum size of a message.
    """

    def __init__(
        self,
        store: HistoryStore,
        streams: Streams,
        deliver: Deliver,
        notify: Notify,
        tasks: Tasks,
        max_message_bytes: int,
    ) -> None:
        self._store = store
        self._streams = streams
        self._deliver = deliver
        self._notify = notify
        self._tasks = tasks
        self._max_message_bytes = max_message_bytes
        self._replicas: dict[str, Replica] = {}

    def publish(self, channel: str, payload: bytes, limits: HistoryLimits) -> None:
        """Give a message to the store, which returns it with its position."""
        self._store.append(channel, payload, limits)

    def add(self, channel: str, limits: HistoryLimits) -> None:
        """Create the replica of a channel that has subscribers now."""
        if channel not in self._replicas:
            self._replicas[channel] = Replica(limits)

    def forget(self, channel: str, *, is_bridged: bool) -> None:
        """Drop the replica of a channel without subscribers; see `ChannelHistory.forget`."""
        self._replicas.pop(channel, None)
        self._streams.drop(channel)

    def stop(self) -> None:
        """Forget all replicas: the store does not belong to the hub any more."""
        self._replicas.clear()

    def take(self, channel: str, message: StoredMessage) -> None:
        """Take a message from the store, and deliver it when its predecessors are delivered."""
        replica = self._replicas.get(channel)
        if replica is None:
            # Without subscribers there are only publish listeners.
            self._deliver_stored(channel, message)
        elif replica.sync is not None:
            replica.wait(message)
        elif not replica.epoch or replica.is_next(message):
            self._append(channel, replica, message)
        elif not replica.is_known(message):
            replica.wait(message)
            self._start_sync(channel, replica)

    def note_cleared(self, channel: str, epoch: str) -> None:
        """Record that another hub has cleared a channel."""
        replica = self._replicas.get(channel)
        if replica is not None and replica.epoch != epoch:
            self._restart(channel, replica, epoch, 0)

    async def resync(self) -> None:
        """Compare the positions of all replicas with the store, one after the other."""
        for channel, replica in tuple(self._replicas.items()):
            # A replica without a position has no subscriber that knows one, or owes a notice.
            if self._replicas.get(channel) is replica and (replica.epoch or replica.owes_notice):
                await asyncio.wait({self._start_sync(channel, replica)})

    def open(self, channel: str, limits: HistoryLimits) -> Stream | Coroutine[Any, Any, Stream]:
        """Return the replica of a stream; see `ChannelHistory.open`."""
        self.add(channel, limits)
        replica = self._replicas[channel]
        if replica.is_current:
            return self._stream(channel, replica)
        return self._open_current(channel, replica)

    def first_kept(self, channel: str, stream: Stream) -> int:
        """Return the offset of the oldest message in the store; see `ChannelHistory`."""
        return min(stream.first, self._replicas[channel].first_kept)

    def load(self, channel: str, after: int) -> Coroutine[Any, Any, None] | None:
        """Load older messages into the replica; see `ChannelHistory.load`."""
        replica = self._replicas[channel]
        first = self._stream(channel, replica).first
        after = max(after, replica.first_kept - 1)
        if first - 1 <= after:
            return None
        # A whole page at least, so that many clients with different positions need few reads.
        return self._wait_loaded(channel, replica, min(after, max(first - 1 - _PAGE_MESSAGES, 0)))

    async def read(
        self, channel: str, limits: HistoryLimits, since: int, limit: int, reverse: bool
    ) -> HistoryPage:
        """Read messages from the store; see `Hub.history`."""
        page = await self._store.read(channel, after=since, limit=0, limits=limits)
        after = max(since, page.offset - limit) if reverse else since
        epoch, first, newest = page.epoch, page.first, page.offset
        messages: list[Message] = []
        while len(messages) < limit:
            size = min(limit - len(messages), _PAGE_MESSAGES)
            page = await self._store.read(channel, after=after, limit=size, limits=limits)
            if not page.payloads or page.epoch != epoch:
                break
            for offset, payload in enumerate(page.payloads, page.start):
                frame = self._prepare(channel, page.epoch, offset, payload).frame
                messages.append(decode_frame(frame, channel, epoch, offset))
            after = page.start + len(page.payloads) - 1
        if reverse:
            messages.reverse()
        return HistoryPage(epoch=epoch, first=first, offset=newest, messages=tuple(messages))

    async def clear(self, channel: str, limits: HistoryLimits) -> str:
        """Clear the stream in the store; see `ChannelHistory.clear`."""
        epoch = await self._store.clear(channel, limits)
        self.note_cleared(channel, epoch)
        return epoch

    # Delivery.

    def _append(self, channel: str, replica: Replica, message: StoredMessage) -> None:
        if not replica.epoch:
            replica.move_to(message.epoch, message.offset - 1)
        stream = self._stream(channel, replica)
        prepared = self._prepare(channel, *message[:3])
        # No other code may run between the next calls: a subscriber that is added in between would
        # lose the message, or get it twice.
        self._streams.append(channel, prepared.frame)
        replica.move_to(stream.epoch, stream.offset)
        self._deliver(channel, prepared, message.is_own)

    def _deliver_stored(self, channel: str, message: StoredMessage) -> None:
        self._deliver(channel, self._prepare(channel, *message[:3]), message.is_own)

    def _prepare(self, channel: str, epoch: str, offset: int, payload: bytes) -> Any:
        return prepare_stored(payload, channel, epoch, offset, self._max_message_bytes)

    def _stream(self, channel: str, replica: Replica) -> Stream:
        """Return the stream of a replica; a new one if it was dropped for lack of memory."""
        stream = self._streams.get(channel)
        if stream is None:
            stream = Stream(replica.epoch, replica.limits, replica.offset)
            self._streams.put(channel, stream)
        return stream

    def _restart(self, channel: str, replica: Replica, epoch: str, offset: int) -> None:
        """Go on at another position, without the messages so far."""
        replica.move_to(epoch, offset)
        self._streams.put(channel, Stream(epoch, replica.limits, offset))

    # Synchronization.

    def _start_sync(self, channel: str, replica: Replica) -> asyncio.Task[None]:
        if replica.sync is None:
            replica.sync = self._tasks.spawn(self._sync(channel, replica))
        return replica.sync

    async def _sync(self, channel: str, replica: Replica) -> None:
        try:
            while not await self._read_missing(channel, replica):
                pass
        except HistoryUnavailableError as exc:
            logger.info("the history of %s cannot be read: %s", channel, exc)
        finally:
            replica.sync = None
            if self._replicas.get(channel) is replica:
                self._take_waiting(channel, replica)

    async def _read_missing(self, channel: str, replica: Replica) -> bool:
        """Read one page of missing messages; return whether the replica is up to date."""
        limit = _PAGE_MESSAGES if replica.epoch else 0
        page = await self._store.read(
            channel, after=replica.offset, limit=limit, limits=replica.limits
        )
        if self._replicas.get(channel) is not replica:
            return True
        replica.first_kept = page.first
        if page.epoch != replica.epoch or page.offset < replica.offset:
            replica.owes_notice = replica.owes_notice or bool(replica.epoch)
            self._restart(
                channel, replica, page.epoch, replica.start_behind(page.epoch, page.offset)
            )
        else:
            await self._append_page(channel, replica, page)
            if replica.offset < page.offset and page.payloads:
                return False
        if replica.owes_notice:
            replica.owes_notice = False
            self._notify(channel, replica.epoch, replica.offset)
        return True

    async def _append_page(self, channel: str, replica: Replica, page: StoredPage) -> None:
        if page.payloads and page.start > replica.offset + 1:
            # The store has removed what is missing. Clients notice the jump.
            self._restart(channel, replica, page.epoch, page.start - 1)
        for offset, payload in enumerate(page.payloads, page.start):
            message = StoredMessage(page.epoch, offset, payload, is_own=False)
            # Meanwhile another hub may have cleared the history, or the last subscriber has left.
            if replica.is_next(message) and self._replicas.get(channel) is replica:
                self._append(channel, replica, message)
            if offset % _SLICE_MESSAGES == 0:
                await asyncio.sleep(0)

    def _take_waiting(self, channel: str, replica: Replica) -> None:
        for message in replica.take_waiting():
            if replica.is_known(message):
                continue
            if replica.epoch and not replica.is_next(message):
                # The store does not have what is missing, or cannot be read. Clients notice.
                self._restart(channel, replica, message.epoch, message.offset - 1)
            self._append(channel, replica, message)

    async def _open_current(self, channel: str, replica: Replica) -> Stream:
        await asyncio.wait({self._start_sync(channel, replica)}, timeout=_OPEN_SECONDS)
        if not replica.is_current or self._replicas.get(channel) is not replica:
            replica.owes_notice = True
            raise HistoryUnavailableError(f"the history of {channel} cannot be read now")
        return self._stream(channel, replica)

    async def _wait_loaded(self, channel: str, replica: Replica, after: int) -> None:
        if replica.loading is None:
            replica.loading = self._tasks.spawn(self._load(channel, replica, after))
        loading = replica.loading
        await asyncio.wait({loading}, timeout=_OPEN_SECONDS)
        if not loading.done() or loading.cancelled() or not loading.result():
            replica.owes_notice = True
            raise HistoryUnavailableError(f"the history of {channel} cannot be read now")

    async def _load(self, channel: str, replica: Replica, after: int) -> bool:
        """Read the messages between an offset and the replica; return whether that was possible."""
        frames: list[bytes] = []
        try:
            while after < self._stream(channel, replica).first - 1:
                page = await self._store.read(
                    channel, after=after, limit=_PAGE_MESSAGES, limits=replica.limits
                )
                replica.first_kept = page.first
                if page.epoch != replica.epoch:
                    self._start_sync(channel, replica)
                    return True
                if not page.payloads:
                    break
                if page.start > after + 1:
                    frames.clear()  # removed meanwhile
                for offset, payload in enumerate(page.payloads, page.start):
                    frames.append(self._prepare(channel, page.epoch, offset, payload).frame)
                    if offset % _SLICE_MESSAGES == 0:
                        await asyncio.sleep(0)
                after = page.start + len(page.payloads) - 1
        except HistoryUnavailableError as exc:
            logger.info("the history of %s cannot be read: %s", channel, exc)
            return False
        finally:
            replica.loading = None
        if self._replicas.get(channel) is not replica or replica.sync is not None:
            return True
        surplus = after - (self._stream(channel, replica).first - 1)
        if 0 <= surplus < len(frames):
            self._streams.prepend(channel, frames[: len(frames) - surplus])
        return True
