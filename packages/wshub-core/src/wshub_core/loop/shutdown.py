"""The shutdown of a hub: hooks first, then the connections; once, and within bounded time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from wshub_core.logs import get_logger
from wshub_core.loop.callbacks import Callbacks
from wshub_core.loop.tasks import Tasks

logger = get_logger("wshub.hub")

ShutdownHook: TypeAlias = Callable[[], Awaitable[None]]
"""Awaited when the hub begins to close, while it still takes messages."""

_HOOK_SECONDS = 10.0
"""Time limit of all hooks, at least: a process gets SIGTERM and five seconds before SIGKILL."""


class Shutdown:
    """Closes a hub once, however often and from wherever that is asked for.

    Args:
        hooks: The shutdown hooks; the list may change until they are called.
        callbacks: Calls of the application's callbacks.
        tasks: The tasks that the hub waits for when it closes.
        close_timeout: The hub's ``close_timeout``, in seconds.
        close_connections: Closes all connections with a code and a reason.

    Attributes:
        is_over: Whether the hooks have ended, so that the hub takes no messages any more.
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
        self._hooks_timeout = max(close_timeout, _HOOK_SECONDS)
        self._close_connections = close_connections
        self._hook_tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None

    async def run(self, code: int, reason: str) -> None:
        """Close the hub, or wait for the closing that is under way.

        If the call is cancelled, the closing goes on.
        """
        caller = asyncio.current_task()
        if caller in self._hook_tasks:
            return  # a hook would wait for its own end
        # A callback that closes the hub must not be waited for: it waits for the closing itself.
        self._tasks.exempt(caller)
        if self._closing is None:
            # In a task of its own, which outlives a cancelled caller.
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
        # A hook may be added while others run, for example by a process that starts then.
        while new := [hook for hook in self._hooks if hook not in called]:
            if loop.time() >= deadline:
                logger.error("%d shutdown hooks came too late and are not called", len(new))
                break
            called.update(new)
            calls = [self._callbacks.call("shutdown hook", None, hook) for hook in new]
            tasks = {self._tasks.spawn(each) for each in calls if isinstance(each, Coroutine)}
            self._hook_tasks |= tasks
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=deadline - loop.time())
                for task in late:
                    logger.error("a shutdown hook takes too long and is cancelled")
                    task.cancel()
