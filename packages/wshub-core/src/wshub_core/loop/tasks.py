"""The tasks of a hub: held while they run, and awaited for a bounded time at the end."""

import asyncio
from collections.abc import Coroutine, Iterable
from contextvars import Context
from typing import Any

_LOOK_SECONDS = 0.25
"""How often a wait looks which tasks are to be waited for."""


class Tasks:
    """Starts tasks and ends them.

    Args:
        loop: The event loop of the tasks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # The event loop itself holds only weak references.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._exempt: set[asyncio.Task[Any]] = set()

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

    def exempt(self, task: asyncio.Task[Any] | None) -> None:
        """Neither wait for a task nor cancel it: it waits for the end of the others itself."""
        if task is not None:
            self._exempt.add(task)

    @property
    def running(self) -> set[asyncio.Task[Any]]:
        """The tasks that have not ended and are not exempt."""
        return self._tasks - self._exempt - {asyncio.current_task()}

    async def wait(self, timeout: float) -> None:
        """Wait until all tasks have ended, those that they start at their end included.

        Args:
            timeout: The longest wait, in seconds.
        """
        deadline = self._loop.time() + timeout
        while (tasks := self.running) and (left := deadline - self._loop.time()) > 0:
            # A task may become exempt meanwhile.
            await asyncio.wait(tasks, timeout=min(left, _LOOK_SECONDS))

    def cancel(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Cancel tasks, but none twice, so that what they do at their end is not cut short."""
        for task in tasks:
            if not task.cancelling() and task not in self._exempt:
                task.cancel()
