"""Turns: few tasks go on in one turn of the event loop, in order."""

import asyncio
from collections import Counter
from itertools import pairwise

from wshub_core.loop.turns import PreciseLoop, Turns


class TurnCounter:
    """Counts the turns of the event loop until it is stopped."""

    def __init__(self) -> None:
        self.turn = 0
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._count)

    def _count(self) -> None:
        self.turn += 1
        self._handle = self._loop.call_soon(self._count)

    def stop(self) -> None:
        self._handle.cancel()


async def test_tasks_that_wake_together_go_on_a_few_at_a_time_and_in_order() -> None:
    turns = Turns(asyncio.get_running_loop(), 10)
    event = asyncio.Event()
    counter = TurnCounter()
    went_on: list[tuple[int, int]] = []

    async def wait(number: int) -> None:
        await event.wait()
        await turns.take()
        went_on.append((number, counter.turn))

    tasks = [asyncio.create_task(wait(number)) for number in range(200)]
    await asyncio.sleep(0)
    event.set()
    await asyncio.gather(*tasks)
    counter.stop()
    assert [number for number, _ in went_on] == [*range(200)]
    assert max(Counter(turn for _, turn in went_on).values()) <= 10


async def test_a_single_task_goes_on_at_once() -> None:
    turns = Turns(asyncio.get_running_loop(), 2)
    counter = TurnCounter()
    for _ in range(3):
        before = counter.turn
        await turns.take()
        assert counter.turn == before
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    counter.stop()


async def test_cancelled_tasks_do_not_hold_up_the_others() -> None:
    turns = Turns(asyncio.get_running_loop(), 1)
    went_on: list[int] = []

    async def take(number: int) -> None:
        await turns.take()
        went_on.append(number)

    tasks = [asyncio.create_task(take(number)) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[1:15]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert went_on == [0, *range(15, 20)]


async def test_the_clock_of_turns_moves_within_a_millisecond() -> None:
    loop = PreciseLoop(asyncio.get_running_loop())
    times = {loop.time() for _ in range(1_000)}
    assert len(times) > 10
    assert min(b - a for a, b in pairwise(sorted(times))) < 0.000_1
