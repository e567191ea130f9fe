"""Several processes that do the same work, and are replaced when they die."""

import asyncio
import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from wshub_core.protocol.backoff import Backoff

_STOP_SECONDS = 20.0
"""How long a worker may take to end after SIGTERM, before SIGKILL."""

_STABLE_SECONDS = 10.0
"""After how long a worker counts as one that works."""

Work = Callable[..., None]
"""What a worker does; it gets a `Connection` to say on that it is ready, and its arguments."""


async def run_workers(
    count: int, work: Work, *arguments: object, on_ready: Callable[[], object]
) -> int:
    """Run work in several processes until this task is cancelled.

    A process that dies is replaced. If the first does not get ready, nothing is replaced.

    Args:
        count: How many processes.
        work: A function of a module, so that it can be found by a process that starts afresh.
        *arguments: What it gets besides its connection; they are pickled.
        on_ready: Called once, when all are ready.

    Returns:
        The exit status of a process that did not get ready; otherwise this does not return.
    """
    slots = [_Slot(work, arguments) for _ in range(count)]
    try:
        # One after the other: what keeps the first from working is said once.
        for slot in slots:
            status = await slot.start()
            if status is not None:
                return status or 1
        on_ready()
        async with asyncio.TaskGroup() as group:
            for slot in slots:
                group.create_task(slot.keep())
    finally:
        await asyncio.gather(*(slot.stop() for slot in slots))
    raise AssertionError("places are kept for as long as nobody cancels that")


class _Slot:
    """The place of one worker, whichever process has it now."""

    def __init__(self, work: Work, arguments: tuple[object, ...]) -> None:
        self._work = work
        self._arguments = arguments
        self._process: SpawnProcess | None = None

    async def start(self) -> int | None:
        """Start a process; return None when it is ready, or its exit status if it has ended."""
        context = multiprocessing.get_context("spawn")
        ready, writer = context.Pipe(duplex=False)
        process = context.Process(target=self._work, args=(writer, *self._arguments))
        process.start()
        self._process = process
        writer.close()
        with ready:
            # It is at its end when the process is, too.
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
            assert self._process is not None, "it was started"
            started = loop.time()
            pid, status = self._process.pid, await self._wait_ended(self._process)
            if loop.time() - started > _STABLE_SECONDS:
                backoff.reset()
            backoff.fail()
            print(f"wshub: worker {pid} has ended with {status}, starting another", file=sys.stderr)
            await asyncio.sleep(backoff.delay())
            # If the machine cannot do it now, the next round tries again.
            with contextlib.suppress(OSError):
                await self.start()

    async def stop(self) -> None:
        """End the process, politely at first."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._wait_ended(process)
        except TimeoutError:
            process.kill()
            await self._wait_ended(process)

    async def _wait_ended(self, process: SpawnProcess) -> int:
        await _wait_readable(process.sentinel)
        process.join()
        assert process.exitcode is not None, "it was joined"
        return process.exitcode


async def _wait_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)


def begin_work(ready: Connection) -> Callable[[], None]:
    """Prepare a worker's process; return what it calls when it is ready.

    Ctrl-C in a terminal reaches all processes; the parent decides what it means.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def tell_ready() -> None:
        ready.send(None)
        ready.close()

    return tell_ready


async def with_parent(work: Coroutine[Any, Any, int]) -> int:
    """Await work; it is cancelled if the parent dies, so that nobody is left behind."""
    parent = multiprocessing.parent_process()
    task = asyncio.current_task()
    assert parent is not None, "a worker has a parent"
    assert task is not None, "a coroutine runs in a task"
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(parent.sentinel)
        task.cancel()

    loop.add_reader(parent.sentinel, end)
    return await work
