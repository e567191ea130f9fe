"""What waits is sent in order, is bounded, and is never forgotten."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wshub_redis.publish_queue import Outgoing, PublishQueue

LIMIT = 50


class PublishQueueMachine(RuleBasedStateMachine):
    """Random use, against two lists."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: PublishQueue[int] = PublishQueue(LIMIT)
        self.waiting: list[Outgoing[int]] = []
        self.in_flight: list[Outgoing[int]] = []
        self.time = 0.0

    @rule(size=st.integers(1, 20))
    def push(self, size: int) -> None:
        self.time += 1
        item = Outgoing(b"c", b"x" * size, self.time, 0)
        fits = self.total + size <= LIMIT
        assert self.queue.push(item) == fits
        if fits:
            self.waiting.append(item)

    @rule(most=st.integers(1, 40))
    def take(self, most: int) -> None:
        commands = self.queue.take(most)
        taken, self.waiting = self.waiting[: len(commands)], self.waiting[len(commands) :]
        assert commands == [item.command for item in taken]
        assert all(item.was_sent for item in taken)
        # As much as asked for, but for the last, and all of it if there is less.
        assert not self.waiting or sum(map(len, commands)) >= most
        assert sum(map(len, commands[:-1])) < most
        self.in_flight += taken

    @precondition(lambda self: self.in_flight)
    @rule()
    def settle(self) -> None:
        assert self.queue.settle() is self.in_flight.pop(0)

    @rule()
    def take_back(self) -> None:
        self.queue.take_back()
        self.waiting = self.in_flight + self.waiting
        self.in_flight = []

    @rule(age=st.integers(0, 10))
    def drop(self, age: int) -> None:
        before = self.time - age
        # One that was taken back may be older than those behind it, and never younger.
        expected = [item for item in self.waiting if item.since <= before]
        assert self.queue.drop(before) == expected
        self.waiting = self.waiting[len(expected) :]

    @property
    def total(self) -> int:
        return sum(len(item.command) for item in self.waiting + self.in_flight)

    @invariant()
    def it_agrees_with_the_lists(self) -> None:
        assert len(self.queue) == len(self.waiting) + len(self.in_flight)
        assert self.queue.size == self.total
        assert self.queue.has_waiting == bool(self.waiting)
        assert self.queue.has_in_flight == bool(self.in_flight)
        assert self.queue.oldest == (self.waiting[0].since if self.waiting else None)


PublishQueueMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestPublishQueue = PublishQueueMachine.TestCase
