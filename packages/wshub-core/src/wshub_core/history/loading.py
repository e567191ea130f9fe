"""The loading of older messages from a shared history into the replica of a stream."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from wshub_core.bridge.history_store import StoredPage
from wshub_core.history.replica import Replica
from wshub_core.history.streams import Streams
from wshub_core.logs import get_logger
from wshub_core.loop.tasks import Tasks
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.protocol.stream import Stream
from wshub_core.values.errors import HistoryUnavailableError
from wshub_core.values.history import HistoryLimits

logger = get_logger("wshub.history")

PAGE_MESSAGES = 1_000
"""Maximum number of messages of one read of the store."""

SLICE_MESSAGES = 100
"""Number of messages between two turns of other tasks: about 2 ms of work."""

_Read: TypeAlias = Callable[[str, int, int, HistoryLimits], Awaitable[StoredPage]]
_Prepare: TypeAlias = Callable[[str, str, int, bytes], PreparedMessage]
_StartSync: TypeAlias = Callable[[str, Replica], object]


class ReplicaLoader:
    """Loads older messages into replicas. Clients with different positions share the reads.

    Args:
        streams: The streams of the hub.
        tasks: The tasks of the hub.
        read: Reads the store: channel, offset, maximum number of messages, limits.
        prepare: Frames a stored message: channel, epoch, offset, payload.
        start_sync: Brings a replica up to date.
    """

    def __init__(
        self,
        streams: Streams,
        tasks: Tasks,
        read: _Read,
        prepare: _Prepare,
        start_sync: _StartSync,
    ) -> None:
        self._streams = streams
        self._tasks = tasks
        self._read = read
        self._prepare = prepare
        self._start_sync = start_sync

    def start(
        self, channel: str, replica: Replica, stream: Stream, after: int
    ) -> asyncio.Task[bool]:
        """Load the messages between an offset and the stream of a replica.

        Returns:
            The task, which returns whether the store could be read. If it ran already, the messages
            may still be missing when it ends.
        """
        # A whole page at least, so that many clients with different positions need few reads.
        replica.wanted = min(replica.wanted, after, max(stream.first - 1 - PAGE_MESSAGES, 0))
        if replica.loading is None:
            replica.loading = self._tasks.spawn(self._load(channel, replica, stream))
        return replica.loading

    async def _load(self, channel: str, replica: Replica, stream: Stream) -> bool:
        """Read the messages before the replica; return whether that was possible."""
        after, replica.wanted = replica.wanted, sys.maxsize
        frames: list[bytes] = []
        try:
            while after < stream.first - 1:
                page = await self._read(channel, after, PAGE_MESSAGES, replica.limits)
                if self._streams.get(channel) is not stream:
                    # Restarted or forgotten meanwhile, or dropped for lack of memory.
                    return True
                replica.note_first_kept(page.first)
                if page.epoch != stream.epoch:
                    self._start_sync(channel, replica)
                    return True
                if not page.payloads:
                    break
                if page.start > after + 1:
                    frames.clear()  # removed meanwhile
                for offset, payload in enumerate(page.payloads, page.start):
                    frames.append(self._prepare(channel, page.epoch, offset, payload).frame)
                    if offset % SLICE_MESSAGES == 0:
                        await asyncio.sleep(0)
                after = page.start + len(page.payloads) - 1
        except HistoryUnavailableError as exc:
            logger.info("the history of %s cannot be read: %s", channel, exc)
            return False
        except Exception:
            logger.exception("reading the history of %s failed", channel)
            return False
        finally:
            replica.loading = None
        if self._streams.get(channel) is stream:
            self._prepend(channel, replica, stream, frames, after)
        return True

    def _prepend(
        self, channel: str, replica: Replica, stream: Stream, frames: list[bytes], after: int
    ) -> None:
        """Add the loaded messages, which end at an offset, as far as the stream lacks them."""
        surplus = after - (stream.first - 1)
        if 0 <= surplus < len(frames):
            missing = frames[: len(frames) - surplus]
            first = stream.first - len(missing)
            self._streams.prepend(channel, missing)
            if stream.first > first:
                # Messages are larger here than in the store, so that this hub cannot keep all.
                replica.note_first_kept(stream.first)
