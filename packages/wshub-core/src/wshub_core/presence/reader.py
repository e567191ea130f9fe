"""The reader: the members of a channel on all hubs, for the application and for clients."""

import asyncio
from typing import TypeAlias

from wshub_core.logs import get_logger
from wshub_core.loop.tasks import Tasks
from wshub_core.presence.snapshot import PresenceSnapshot
from wshub_core.presence.sync import PresenceSync
from wshub_core.values.errors import PresenceUnavailableError
from wshub_core.values.presence import PresenceSettings

logger = get_logger("wshub.presence")

_Key: TypeAlias = tuple[str, int]


class PresenceReader:
    """Reads the members of channels from the store.

    Requests for the same channel that arrive while the store is read share the next read. After a
    restart, thousands of clients may ask for the same channel at once.

    Args:
        sync: The synchronization with the store.
        tasks: The tasks of the hub.
        max_answer_bytes: Maximum size of an answer to a client, in bytes.
    """

    def __init__(self, sync: PresenceSync, tasks: Tasks, max_answer_bytes: int) -> None:
        self._sync = sync
        self._max_answer_bytes = max_answer_bytes
        self._tasks = tasks
        self._running: dict[_Key, asyncio.Task[PresenceSnapshot]] = {}
        self._next: dict[_Key, asyncio.Task[PresenceSnapshot]] = {}

    async def read(self, channel: str, settings: PresenceSettings, limit: int) -> PresenceSnapshot:
        """Return the members of a channel, with the changes on this hub up to now.

        Args:
            channel: The channel.
            settings: The settings of the channel's presence.
            limit: Maximum number of members; 0 for the numbers alone.

        Raises:
            PresenceUnavailableError: The members cannot be read now.
        """
        key = (channel, limit)
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = self._tasks.spawn(self._read_in_turn(key, settings))
            # Reading the exception marks it as handled: all callers may have been cancelled.
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
        # A caller that is cancelled does not cancel the task, which others wait for.
        await asyncio.wait([task])
        if task.cancelled():
            raise PresenceUnavailableError("the hub is closing")
        return task.result()

    async def _read_in_turn(self, key: _Key, settings: PresenceSettings) -> PresenceSnapshot:
        channel, limit = key
        running = self._running.get(key)
        if running is not None:
            await asyncio.wait([running])
        task = self._running[key] = self._next.pop(key)
        try:
            await self._sync.wait_sent(channel)
            stored = await self._sync.store.read(channel, settings, limit)
            return PresenceSnapshot(stored, self._max_answer_bytes)
        except PresenceUnavailableError:
            raise
        except Exception as exc:
            logger.exception("the presence store failed")
            raise PresenceUnavailableError("the presence store failed") from exc
        finally:
            if self._running.get(key) is task:
                del self._running[key]
