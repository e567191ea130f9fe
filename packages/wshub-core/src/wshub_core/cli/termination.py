"""The signals that end the command, and how its processes react to them."""

import asyncio
import multiprocessing
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from wshub_core.hub import Hub

END_NOW = getattr(signal, "SIGUSR1", signal.SIGTERM)
"""The signal with which the parent of a worker ends it at once. Windows has no such signal, and no
workers either.
"""


async def until_terminated(work: Coroutine[Any, Any, int]) -> int:
    """Await a coroutine; SIGTERM cancels it as Ctrl-C does, so that it can clean up."""
    on_sigterm(current_task().cancel)
    return await work


async def drain_when_terminated(hub: Hub, window: float) -> None:
    """Wait for SIGTERM, and drain a hub then; a second SIGTERM cancels the calling task."""
    await wait_for_sigterm()
    await hub.drain_connections(window)


async def wait_for_sigterm() -> None:
    """Wait for SIGTERM; a second SIGTERM cancels the calling task."""
    terminated = asyncio.Event()
    on_sigterm(terminated.set)
    await terminated.wait()


def on_sigterm(callback: Callable[[], object]) -> None:
    """Call a function at the next SIGTERM, and cancel the calling task at further ones.

    A service manager may send the signal to a worker and to its parent, which passes it on. So a
    worker ignores further ones, and its parent ends it with another signal.
    """
    if sys.platform == "win32":
        return
    loop = asyncio.get_running_loop()
    cancel = current_task().cancel

    def call_first() -> None:
        is_worker = multiprocessing.parent_process() is not None
        loop.add_signal_handler(signal.SIGTERM, _ignore if is_worker else cancel)
        callback()

    loop.add_signal_handler(signal.SIGTERM, call_first)


def _ignore() -> None:
    pass


def current_task() -> asyncio.Task[Any]:
    """Return the task in which a coroutine runs."""
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    return task
