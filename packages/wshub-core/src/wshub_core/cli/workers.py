"""Worker processes, which are replaced when they die."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from wshub_core.cli.termination import END_NOW, current_task, wait_for_sigterm
from wshub_core.logs import get_logger
from wshub_core.protocol.backoff import Backoff

logger = get_logger("wshub.workers")

_SPARE_SECONDS = 10.0
"""Seconds that a worker may take in addition to the end of its connections, for example for the
last messages of a bridge.
"""

_STABLE_SECONDS = 10.0
"""Seconds after which a worker counts as stable; the restart backoff then begins again."""

Work = Callable[..., None]
"""The function of a worker. It gets a `Connection` on which it reports that it is ready, and its
arguments."""


async def run_workers(
    count: int,
    work: Work,
    *arguments: object,
    on_ready: Callable[[], object],
    close_timeout: float,
    drain_window: float = 0.0,
) -> int:
    """Run a function in several worker processes until SIGTERM, or until this task is cancelled.

    A worker that dies is replaced. If a worker ends before it is ready, all workers are stopped.

    Args:
        count: Number of workers.
        work: The function. It must be importable, because each worker is a new interpreter.
        *arguments: Further arguments of the function; they are pickled.
        on_ready: Called once, when all workers are ready.
        close_timeout: The ``close_timeout`` of the workers. A worker that has not closed its
            connections after twice this time is killed.
        drain_window: Time in seconds that the workers take to end after SIGTERM. With 0, SIGTERM
            cancels this task.

    Returns:
        The exit status of a worker that ended before it was ready; 0 after SIGTERM.
    """
    slots = [_Slot(work, arguments, 2 * close_timeout + _SPARE_SECONDS) for _ in range(count)]
    try:
        # One after the other, so that an error that all workers would have is reported once.
        for slot in slots:
            status = await slot.start()
            if status is not None:
                return status or 1
        on_ready()
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(slot.keep()) for slot in slots]
            await (wait_for_sigterm() if drain_window else asyncio.Event().wait())
            for task in keeping:
                task.cancel()
        await asyncio.gather(*(slot.end(signal.SIGTERM, drain_window) for slot in slots))
    finally:
        await asyncio.gather(*(slot.end(END_NOW) for slot in slots))
    return 0


class _Slot:
    """The slot of one worker, which its replacements take over.

    Args:
        work: The function of the worker.
        arguments: Its arguments.
        stop_seconds: Time in seconds between the signal that ends the worker and SIGKILL, if the
            worker does not end.
    """

    def __init__(self, work: Work, arguments: tuple[object, ...], stop_seconds: float) -> None:
        self._work = work
        self._arguments = arguments
        self._stop_seconds = stop_seconds
        self._process: SpawnProcess | None = None

    async def start(self) -> int | None:
        """Start a process; return None when it is ready, or its exit status if it ends before."""
        # `spawn`, because a fork would copy the event loop of this process.
        context = multiprocessing.get_context("spawn")
        ready, writer = context.Pipe(duplex=False)
        process = context.Process(target=self._work, args=(writer, *self._arguments))
        process.start()
        self._process = process
        # The worker then has the only copy of this end, so its death ends the pipe.
        writer.close()
        with ready:
            await _wait_readable(ready.fileno())
            with contextlib.suppress(EOFError):
                ready.recv()
                return None
        return await self._wait_ended(process)

    async def keep(self) -> None:
        """Replace the process whenever it dies."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(0.1, 5.0, 2.0)
        while True:
            assert self._process is not None, "the process was started"
            started = loop.time()
            pid, status = self._process.pid, await self._wait_ended(self._process)
            if loop.time() - started > _STABLE_SECONDS:
                backoff.reset()
            backoff.fail()
            logger.warning("worker %s has ended with %s, starting another", pid, status)
            await asyncio.sleep(backoff.delay())
            # If no process can be started now, the next round tries again.
            with contextlib.suppress(OSError):
                await self.start()

    async def end(self, number: signal.Signals, seconds: float = 0.0) -> None:
        """End the process with a signal, and with SIGKILL if it does not end in time.

        Args:
            number: The signal.
            seconds: Time that the process may take in addition.
        """
        process = self._process
        if process is None or not process.is_alive():
            return
        assert process.pid is not None, "the process was started"
        os.kill(process.pid, number)
        try:
            async with asyncio.timeout(seconds + self._stop_seconds):
                await self._wait_ended(process)
        except TimeoutError:
            process.kill()
            await self._wait_ended(process)

    async def _wait_ended(self, process: SpawnProcess) -> int:
        await _wait_readable(process.sentinel)
        process.join()
        assert process.exitcode is not None, "the process was joined"
        return process.exitcode


async def _wait_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)


def prepare_worker(ready: Connection) -> Callable[[], None]:
    """Prepare the process of a worker; return the function that reports that it is ready."""
    # Ctrl-C in a terminal reaches all processes. Only the parent handles it, and stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def report_ready() -> None:
        ready.send(None)
        ready.close()

    return report_ready


async def cancel_with_parent(work: Coroutine[Any, Any, int]) -> int:
    """Await the work of a worker; cancel it if the parent dies, or ends the worker at once.

    Without the first, the death of a parent would leave its workers behind.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    task = current_task()
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(parent.sentinel)
        task.cancel()

    loop.add_reader(parent.sentinel, end)
    loop.add_signal_handler(END_NOW, task.cancel)
    return await work
