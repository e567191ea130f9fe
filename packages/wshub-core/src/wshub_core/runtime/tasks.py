"""The tasks of a hub: held while they run, and awaited for a bounded time at the end."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from wshub_core.logs import get_logger

logger = get_logger("wshub.hub")


class Tasks:
    """Starts tasks and ends them.

    Args:
        loop: The event loop of the tasks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # The event loop itself holds only weak references.
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(
        self, work: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Start a task.

        Args:
            work: The coroutine to run.
            context: The context to run it in; a copy of the present one if None.
        """
        task = self._loop.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self, timeout: float) -> None:
        """Wait until all tasks have ended, except the one that calls.

        Tasks that take longer than the timeout are cancelled. The tasks that they start at their
        end, such as calls of ``on_disconnect``, get the timeout once more, and are then cancelled,
        too. Tasks that ignore their cancellation are logged and left behind.

        Args:
            timeout: The longest of each of three waits, in seconds.
        """
        tasks = self._others()
        await self._wait(tasks, timeout)
        self._cancel(tasks)
        await self._wait(self._others(), timeout)
        self._cancel(self._others())
        await self._wait(self._others(), timeout)
        stuck = self._others()
        if stuck:
            logger.error("%d callbacks ignore their cancellation", len(stuck))

    async def _wait(self, tasks: set[asyncio.Task[Any]], timeout: float) -> None:
        deadline = self._loop.time() + timeout
        # A task may start another one at its end.
        while tasks and self._loop.time() < deadline:
            await asyncio.wait(tasks, timeout=deadline - self._loop.time())
            tasks = self._others()

    def _cancel(self, tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()

    def _others(self) -> set[asyncio.Task[Any]]:
        return self._tasks - {asyncio.current_task()}
