"""The tasks of a hub: kept alive while they run, and awaited for a bounded time at the end."""

import asyncio
from collections.abc import Coroutine, Iterable
from contextvars import Context
from typing import Any

_CHECK_SECONDS = 0.25
"""Time between two checks of the list of tasks to wait for, in seconds."""


class Tasks:
    """Starts tasks, waits for them and cancels them.

    Args:
        loop: The event loop of the tasks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # The event loop holds only weak references, so a task could be collected while it runs.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._exempt: set[asyncio.Task[Any]] = set()

    def spawn(
        self, work: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Start a task.

        Args:
            work: The coroutine to run.
            context: The context of the task; a copy of the current context if None.
        """
        task = self._loop.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def exempt(self, task: asyncio.Task[Any] | None) -> None:
        """Exclude a task from `wait` and `cancel`, because it waits for the end of the others."""
        if task is not None:
            self._exempt.add(task)

    @property
    def running(self) -> set[asyncio.Task[Any]]:
        """The tasks that run and are not exempt, without the current task."""
        return self._tasks - self._exempt - {asyncio.current_task()}

    async def wait(self, timeout: float) -> None:
        """Wait until all tasks have ended, including tasks that start meanwhile.

        Args:
            timeout: Longest wait, in seconds.
        """
        deadline = self._loop.time() + timeout
        while (tasks := self.running) and (left := deadline - self._loop.time()) > 0:
            # Short waits, because a task may become exempt meanwhile.
            await asyncio.wait(tasks, timeout=min(left, _CHECK_SECONDS))

    def cancel(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Cancel tasks. A task is cancelled once only, so that its cleanup is not interrupted."""
        for task in tasks:
            if not task.cancelling() and task not in self._exempt:
                task.cancel()
