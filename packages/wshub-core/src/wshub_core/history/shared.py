"""The history that several hubs share: this hub's replicas of its streams."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from wshub_core.bridge.history_store import HistoryStore, StoredPage
from wshub_core.history.channel_history import Deliver
from wshub_core.history.loading import PAGE_MESSAGES, SLICE_MESSAGES, ReplicaLoader
from wshub_core.history.positions import decode_frame
from wshub_core.history.replica import Replica, StoredMessage
from wshub_core.history.stored_payloads import prepare_stored
from wshub_core.history.streams import Streams
from wshub_core.logs import get_logger
from wshub_core.loop.tasks import Tasks
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.protocol.stream import Stream
from wshub_core.values.errors import HistoryUnavailableError
from wshub_core.values.history import HistoryLimits, HistoryPage, is_epoch
from wshub_core.values.messages import Message

logger = get_logger("wshub.history")

_WAIT_SECONDS = 2.0
"""Maximum time in seconds for which a subscriber waits for a read of the store."""

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

    The class is one unit, although it has many methods: delivery and synchronization both move the
    position of a replica.

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
        self.streams = streams
        self._deliver = deliver
        self._notify = notify
        self._tasks = tasks
        self._max_message_bytes = max_message_bytes
        self._replicas: dict[str, Replica] = {}
        self._loader = ReplicaLoader(
            streams, tasks, self._read_store, self._prepare, self._start_sync
        )

    def publish(self, channel: str, payload: bytes, limits: HistoryLimits) -> None:
        """Give a message to the store, which returns it with its position."""
        self.note_own(channel, payload)
        self._store.append(channel, payload, limits)

    def note_own(self, channel: str, payload: bytes) -> None:
        """Record that this hub appends a message: its listeners have had it already."""
        replica = self._replicas.get(channel)
        if replica is not None:
            replica.note_own(payload)

    def note_unstored(self, channel: str, payload: bytes) -> None:
        """Record that the store has lost a message of this hub."""
        replica = self._replicas.get(channel)
        if replica is not None:
            replica.take_own(payload)

    def add(self, channel: str, limits: HistoryLimits) -> None:
        """Create the replica of a channel that has subscribers now."""
        if channel not in self._replicas:
            self._replicas[channel] = Replica(limits)

    def forget(self, channel: str, *, is_bridged: bool) -> None:
        """Drop the replica of a channel without subscribers; see `ChannelHistory.forget`."""
        self._replicas.pop(channel, None)
        self.streams.drop(channel)

    def stop(self) -> None:
        """Forget all replicas: the store does not belong to the hub any more."""
        for replica in self._replicas.values():
            for task in (replica.sync, replica.loading):
                if task is not None:
                    task.cancel()
        self._replicas.clear()

    def take(self, channel: str, message: StoredMessage) -> None:
        """Take a message from the store, and deliver it when its predecessors are delivered."""
        replica = self._replicas.get(channel)
        if replica is None:
            # Without subscribers there are only publish listeners.
            self._deliver(channel, self._prepare(channel, *message[:3]), message.is_own)
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
        for replica in self._replicas.values():
            # A read that has begun before this call may not have seen what was lost.
            replica.is_outdated = replica.sync is not None
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
        stream = self._stream(channel, replica)
        after = max(after, replica.first_kept - 1)
        if stream.first - 1 <= after:
            return None
        return self._wait_read(
            channel, replica, self._loader.start(channel, replica, stream, after)
        )

    def refresh(self, channel: str) -> Coroutine[Any, Any, None]:
        """Bring the replica up to date; see `ChannelHistory.refresh`."""
        replica = self._replicas[channel]
        replica.is_outdated = replica.sync is not None
        return self._wait_read(channel, replica, self._start_sync(channel, replica))

    async def read(
        self, channel: str, limits: HistoryLimits, since: int, limit: int, reverse: bool
    ) -> HistoryPage:
        """Read messages from the store; see `Hub.history`."""
        page = await self._read_store(channel, since, 0, limits)
        after = max(since, page.offset - limit) if reverse else since
        epoch, first, newest = page.epoch, page.first, page.offset
        messages: list[Message] = []
        while len(messages) < limit:
            size = min(limit - len(messages), PAGE_MESSAGES)
            page = await self._read_store(channel, after, size, limits)
            if not page.payloads or page.epoch != epoch:
                break
            for offset, payload in enumerate(page.payloads, page.start):
                frame = self._prepare(channel, page.epoch, offset, payload).frame
                messages.append(decode_frame(frame, channel, epoch, offset))
                if offset % SLICE_MESSAGES == 0:
                    await asyncio.sleep(0)
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
        is_own = replica.take_own(message.payload) or message.is_own
        # No other code may run between the next calls: a subscriber that is added in between would
        # lose the message, or get it twice.
        self.streams.append(channel, prepared.frame)
        replica.move_to(stream.epoch, stream.offset)
        self._deliver(channel, prepared, is_own)

    def _prepare(self, channel: str, epoch: str, offset: int, payload: bytes) -> PreparedMessage:
        return prepare_stored(payload, channel, epoch, offset, self._max_message_bytes)

    def _stream(self, channel: str, replica: Replica) -> Stream:
        """Return the stream of a replica; a new one if it was dropped for lack of memory."""
        stream = self.streams.get(channel)
        if stream is None:
            stream = Stream(replica.epoch, replica.limits, replica.offset)
            self.streams.put(channel, stream)
        return stream

    def _restart(self, channel: str, replica: Replica, epoch: str, offset: int) -> None:
        """Go on at another position, without the messages so far."""
        replica.move_to(epoch, offset)
        self.streams.put(channel, Stream(epoch, replica.limits, offset))

    async def _read_store(
        self, channel: str, after: int, limit: int, limits: HistoryLimits
    ) -> StoredPage:
        page = await self._store.read(channel, after=after, limit=limit, limits=limits)
        if not is_epoch(page.epoch):
            # Somebody else has written to the store. Messages contain the epoch without escapes.
            raise HistoryUnavailableError(f"the history of {channel} has an invalid epoch")
        return page

    # Synchronization.

    def _start_sync(self, channel: str, replica: Replica) -> asyncio.Task[bool]:
        if replica.sync is None:
            replica.sync = self._tasks.spawn(self._sync(channel, replica))
        return replica.sync

    async def _sync(self, channel: str, replica: Replica) -> bool:
        """Bring a replica up to date; return whether the store could be read."""
        try:
            while True:
                replica.is_outdated = False
                arrived = replica.arrived
                if (
                    await self._read_missing(channel, replica)
                    and self._take_waiting(channel, replica, arrived)
                    and not replica.is_outdated
                ):
                    return True
        except HistoryUnavailableError as exc:
            logger.info("the history of %s cannot be read: %s", channel, exc)
            return False
        except Exception:
            # A store must not raise. If one does, subscribers must not wait for ever.
            logger.exception("reading the history of %s failed", channel)
            return False
        finally:
            replica.sync = None
            self._take_waiting(channel, replica, None)

    async def _read_missing(self, channel: str, replica: Replica) -> bool:
        """Read one page of missing messages; return whether the replica is up to date."""
        epoch, offset = replica.epoch, replica.offset
        limit = PAGE_MESSAGES if epoch else 0
        page = await self._read_store(channel, offset, limit, replica.limits)
        if self._replicas.get(channel) is not replica:
            return True
        if replica.epoch != epoch:
            return False  # cleared meanwhile, and the page may be older
        if page.epoch != epoch or page.offset < offset:
            replica.owes_notice = replica.owes_notice or bool(epoch)
            start = replica.start_behind(page.epoch, page.offset)
            self._restart(channel, replica, page.epoch, start)
            replica.note_first_kept(page.first)
        else:
            replica.note_first_kept(page.first)
            if page.payloads:
                await self._append_page(channel, replica, page)
                if replica.offset < page.offset:
                    return False
            elif offset < page.offset:
                # The store has removed all that is missing.
                self._restart(channel, replica, page.epoch, page.offset)
                replica.owes_notice = True
        if replica.owes_notice:
            replica.owes_notice = False
            self._notify(channel, replica.epoch, replica.offset)
        return True

    async def _append_page(self, channel: str, replica: Replica, page: StoredPage) -> None:
        if page.start > replica.offset + 1:
            # The store has removed what is missing. Clients notice the jump.
            self._restart(channel, replica, page.epoch, page.start - 1)
        for offset, payload in enumerate(page.payloads, page.start):
            message = StoredMessage(page.epoch, offset, payload, is_own=False)
            # Meanwhile another hub may have cleared the history, or the last subscriber has left.
            if replica.is_next(message) and self._replicas.get(channel) is replica:
                self._append(channel, replica, message)
            if offset % SLICE_MESSAGES == 0:
                await asyncio.sleep(0)

    def _take_waiting(self, channel: str, replica: Replica, arrived: int | None) -> bool:
        """Deliver the messages that wait; return False if others must be read before.

        Args:
            channel: The channel.
            replica: The replica.
            arrived: The value of `Replica.arrived` when the last read began; None if the store
                cannot be read.
        """
        while replica.waiting and self._replicas.get(channel) is replica:
            message = replica.waiting[0]
            if not (replica.is_known(message) or replica.is_next(message)):
                if arrived is not None and replica.first_waiting >= arrived:
                    return False
                if arrived is None or message.epoch == replica.epoch:
                    # What is missing is not in the store, or cannot be read. Clients notice.
                    self._restart(channel, replica, message.epoch, message.offset - 1)
            replica.pop_waiting()
            # Messages that are older than the epoch of the store are dropped.
            if replica.is_next(message):
                self._append(channel, replica, message)
        return True

    async def _open_current(self, channel: str, replica: Replica) -> Stream:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _WAIT_SECONDS
        # Another read may have begun between the end of the first one and this task's turn.
        while not replica.is_current:
            task = self._start_sync(channel, replica)
            await asyncio.wait({task}, timeout=max(deadline - loop.time(), 0))
            is_lost = self._replicas.get(channel) is not replica
            if is_lost or not task.done() or (replica.sync is None and not replica.epoch):
                replica.owes_notice = True
                raise HistoryUnavailableError(f"the history of {channel} cannot be read now")
        return self._stream(channel, replica)

    async def _wait_read(self, channel: str, replica: Replica, task: asyncio.Task[bool]) -> None:
        """Wait for a task that reads the store."""
        await asyncio.wait({task}, timeout=_WAIT_SECONDS)
        if not task.done() or task.cancelled() or not task.result():
            replica.owes_notice = True
            raise HistoryUnavailableError(f"the history of {channel} cannot be read now")
