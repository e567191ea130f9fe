"""Turns: a limit for the number of tasks that go on in one turn of the event loop."""

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol


class TurningLoop(Protocol):
    """The parts of an event loop for work in several turns."""

    def time(self) -> float:
        """Return the time in seconds."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call back in the next turn of the event loop."""


class PreciseLoop:
    """An event loop with the clock of the system; implements `TurningLoop`.

    The clock of uvloop 0.23 moves in steps of a millisecond, which is too coarse for turns of a few
    milliseconds. It also takes several calls to read the clock of a loop.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.call_soon: Callable[[Callable[[], object]], object] = loop.call_soon
        self.time = monotonic


class Turns:
    """Lets a limited number of tasks go on in each turn of the event loop, in order.

    Thousands of tasks may wait for the same event. All of them would go on in one turn, which would
    block the event loop for long.

    Args:
        loop: The event loop.
        tasks_per_turn: Number of tasks that go on in one turn.
    """

    def __init__(self, loop: AbstractEventLoop, tasks_per_turn: int) -> None:
        self._loop = loop
        self._tasks_per_turn = tasks_per_turn
        self._left = tasks_per_turn
        self._waiting: deque[Future[None]] = deque()
        self._is_scheduled = False

    async def take(self) -> None:
        """Go on at once, or in a later turn if too many tasks have gone on in this one."""
        self._schedule()
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        turn = self._loop.create_future()
        self._waiting.append(turn)
        await turn

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        self._is_scheduled = False
        self._left = self._tasks_per_turn
        while self._waiting and self._left > 0:
            turn = self._waiting.popleft()
            if not turn.done():  # a cancelled task gives its turn to the next one
                turn.set_result(None)
                self._left -= 1
        if self._waiting:
            self._schedule()
