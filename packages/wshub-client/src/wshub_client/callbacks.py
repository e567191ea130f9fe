"""The application's callbacks: called one after the other, off the path of the connection."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from inspect import isawaitable
from typing import TypeAlias

from wshub_client.inbox import Inbox, InboxOverflow
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")

Call: TypeAlias = Callable[[], object]
"""A callback with its arguments; plain or async."""


class Callbacks:
    """Calls callbacks in order, in a task of its own, so that none holds up the connection.

    Args:
        size: How many calls with messages may wait.
        overflow: What happens when there are more.
    """

    def __init__(self, size: int, overflow: InboxOverflow) -> None:
        self._calls: Inbox[Call] = Inbox(size, overflow)
        self._calling: asyncio.Task[None] | None = None

    def lift(self) -> AbstractContextManager[None]:
        """Have `put` not wait, in this block."""
        return self._calls.lift()

    @property
    def dropped(self) -> int:
        """How many calls with messages were dropped."""
        return self._calls.dropped

    async def put(self, call: Call, is_over: Callable[[], bool]) -> None:
        """Have a message told, when there is room or as the policy says; see `Inbox.put`."""
        self._start()
        await self._calls.put(call, is_over)

    def wake(self) -> None:
        """Have whoever waits for room look again."""
        self._calls.wake()

    def put_event(self, call: Call) -> None:
        """Have an event told."""
        self._start()
        self._calls.put_event(call)

    def _start(self) -> None:
        # Not before there is something to tell: a client without callbacks needs no such task.
        if self._calling is None:
            self._calling = asyncio.create_task(self._call_all())

    def close(self) -> None:
        """Take no more messages; what is there is still told."""
        self._calls.close()

    async def finish(self, timeout: float) -> None:
        """Wait until all is told, but not for ever; called from a callback, it does not wait."""
        if self._calling is None or self._calling is asyncio.current_task():
            return
        await asyncio.wait({self._calling}, timeout=timeout)
        if not self._calling.done() and not self._calling.cancelling():
            logger.error("a callback takes too long and is cancelled")
            self._calling.cancel()
            await asyncio.wait({self._calling}, timeout=timeout)

    async def _call_all(self) -> None:
        while (call := await self._calls.get()) is not None:
            try:
                result = call()
                if isawaitable(result):
                    await result
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # Nobody has cancelled this: the callback has awaited something that was.
                logger.exception("a callback failed")
            except Exception:
                logger.exception("a callback failed")
