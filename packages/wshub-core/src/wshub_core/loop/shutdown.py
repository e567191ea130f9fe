"""The shutdown of a hub: the shutdown hooks first, then the connections, each in bounded time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from wshub_core.logs import get_logger
from wshub_core.loop.callbacks import Callbacks
from wshub_core.loop.tasks import Tasks

logger = get_logger("wshub.hub")

ShutdownHook: TypeAlias = Callable[[], Awaitable[None]]
"""An async function that is awaited when the hub begins to close, while it still takes messages."""

_MIN_HOOKS_SECONDS = 10.0
"""Shortest time limit of all shutdown hooks together, in seconds. The hook of a child process waits
up to 5 seconds between SIGTERM and SIGKILL.
"""


class Shutdown:
    """Closes a hub once. Further calls, from any task, wait for the same end.

    Args:
        hooks: The shutdown hooks; the list may change until they are called.
        callbacks: Calls of the application's callbacks.
        tasks: The tasks that the hub waits for when it closes.
        close_timeout: The hub's ``close_timeout``, in seconds.
        close_connections: Closes all connections with a code and a reason.

    Attributes:
        is_over: True after the end of the hooks; the hub then takes no more messages.
    """

    def __init__(
        self,
        hooks: Sequence[ShutdownHook],
        callbacks: Callbacks,
        tasks: Tasks,
        close_timeout: float,
        close_connections: Callable[[int, str], Awaitable[None]],
    ) -> None:
        self.is_over = False
        self._hooks = hooks
        self._callbacks = callbacks
        self._tasks = tasks
        self._hooks_timeout = max(close_timeout, _MIN_HOOKS_SECONDS)
        self._close_connections = close_connections
        self._hook_tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None

    async def run(self, code: int, reason: str) -> None:
        """Close the hub, or wait for the shutdown that is under way.

        If the call is cancelled, the shutdown goes on.
        """
        caller = asyncio.current_task()
        if caller in self._hook_tasks:
            return  # a hook that waits for the shutdown would wait for its own end
        # A callback may call this method. The shutdown must not wait for the callback's task, which
        # waits for the shutdown.
        self._tasks.exempt(caller)
        if self._closing is None:
            # A separate task goes on when the caller is cancelled.
            self._closing = asyncio.create_task(self._close(code, reason))
        await asyncio.shield(self._closing)

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self._run_hooks()
        finally:
            self.is_over = True
            await self._close_connections(code, reason)

    async def _run_hooks(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._hooks_timeout
        called: set[ShutdownHook] = set()
        # A hook may be added while others run, for example by a child process that starts now.
        while new := [hook for hook in self._hooks if hook not in called]:
            if loop.time() >= deadline:
                logger.error("%d shutdown hooks were added too late and are not called", len(new))
                break
            called.update(new)
            # All hooks run at the same time, and one time limit is enough for all.
            calls = [self._callbacks.call("shutdown hook", None, hook) for hook in new]
            tasks = {self._tasks.spawn(each) for each in calls if isinstance(each, Coroutine)}
            self._hook_tasks |= tasks
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=deadline - loop.time())
                for task in late:
                    logger.error("a shutdown hook takes too long and is cancelled")
                    task.cancel()
