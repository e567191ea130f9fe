"""Helpers for waiting on an event loop that other code may block."""

import asyncio
from typing import Any

from wshub_client.errors import ClientError

STANDSTILL_SECONDS = 0.05
"""The delay of a timer that shows that the loop was blocked, or that the process was stopped."""

_SLICE_SECONDS = 0.005


class Signal:
    """Wakes the tasks that wait for a change.

    An `asyncio.Event` would be cleared before each wait. It also has a queue, which takes more
    memory than a whole inbox without messages.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def send(self) -> None:
        """Wake all tasks that wait now."""
        if self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters = []

    async def wait(self) -> None:
        """Wait for the next call of `send`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            # The waiter is still there if this task is cancelled.
            if waiter in self._waiters:
                self._waiters.remove(waiter)


class TimeSlice:
    """Limits how long a long computation occupies the event loop without a break."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + _SLICE_SECONDS

    async def give_way(self) -> None:
        """Let other tasks run if this one has occupied the loop for 5 milliseconds."""
        if self._loop.time() >= self._end:
            await asyncio.sleep(0)
            self._end = self._loop.time() + _SLICE_SECONDS


async def wait_awake(task: "asyncio.Task[Any]", seconds: float) -> None:
    """Wait until a task is done or a time is over, without counting standstills of the loop.

    While the loop stands still, nothing is read from sockets: the data that the task waits for may
    have arrived meanwhile. So when the deadline passes during a standstill, the wait is extended by
    as much time as the deadline was missed by.
    """
    loop = asyncio.get_running_loop()
    wait = seconds
    while not task.done():
        deadline = loop.time() + wait
        await asyncio.wait({task}, timeout=wait)
        late = loop.time() - deadline
        if late < STANDSTILL_SECONDS:
            return
        wait = min(late, seconds)


def make_outcome() -> "asyncio.Future[None]":
    """Return a future for an outcome that its waiter may stop waiting for."""
    outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    # Without this, asyncio logs "exception was never retrieved" when the waiter has been cancelled.
    outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
    return outcome


def set_outcome(outcome: "asyncio.Future[None]", error: ClientError | None) -> None:
    """Complete a future with an error or with None, unless it is complete or cancelled."""
    if outcome.done():
        return
    if error is None:
        outcome.set_result(None)
    else:
        outcome.set_exception(error)
