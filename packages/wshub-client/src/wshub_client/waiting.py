"""Waiting in a loop that others use too, and that others may hold up."""

import asyncio
from typing import Any

STANDSTILL_SECONDS = 0.05
"""By how much a timer must be late to show that the loop was held up, or the process stopped."""

_TURN_SECONDS = 0.005


class Turn:
    """Limits how long a long piece of work holds the loop at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + _TURN_SECONDS

    async def give_way(self) -> None:
        """Let the rest of the loop run, if it has waited for some milliseconds."""
        if self._loop.time() >= self._end:
            await asyncio.sleep(0)
            self._end = self._loop.time() + _TURN_SECONDS


async def wait_awake(task: "asyncio.Task[Any]", seconds: float) -> None:
    """Wait until a task is done or the time is over; a standstill of the loop does not count.

    While the loop stands still, nothing is read. What the task waits for may have come meanwhile,
    so the time by which the deadline was missed is given back.
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
