"""The publish queue keeps the order, its limit, and every message."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wshub_redis.publish_queue import PublishQueue, QueuedMessage

LIMIT = 50


class PublishQueueMachine(RuleBasedStateMachine):
    """Random operations, compared with two lists."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: PublishQueue[int] = PublishQueue(LIMIT)
        self.waiting: list[QueuedMessage[int]] = []
        self.in_flight: list[QueuedMessage[int]] = []
        self.time = 0.0

    @rule(size=st.integers(1, 20))
    def push(self, size: int) -> None:
        self.time += 1
        item = QueuedMessage(b"c", b"x" * size, self.time, 0)
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
        # The batch is complete when the last command reaches the size, or when nothing waits.
        assert not self.waiting or sum(map(len, commands)) >= most
        assert sum(map(len, commands[:-1])) < most
        self.in_flight += taken

    @precondition(lambda self: self.in_flight)
    @rule()
    def pop_answered(self) -> None:
        assert self.queue.pop_answered() is self.in_flight.pop(0)

    @rule()
    def requeue_in_flight(self) -> None:
        self.queue.requeue_in_flight()
        self.waiting = self.in_flight + self.waiting
        self.in_flight = []

    @rule(age=st.integers(0, 10))
    def drop(self, age: int) -> None:
        before = self.time - age
        # A requeued message is never younger than the messages behind it.
        expected = [item for item in self.waiting if item.since <= before]
        assert self.queue.drop_until(before) == expected
        self.waiting = self.waiting[len(expected) :]

    @property
    def total(self) -> int:
        return sum(len(item.command) for item in self.waiting + self.in_flight)

    @invariant()
    def the_queue_agrees_with_the_lists(self) -> None:
        assert len(self.queue) == len(self.waiting) + len(self.in_flight)
        assert self.queue.size == self.total
        assert self.queue.has_waiting == bool(self.waiting)
        assert self.queue.has_in_flight == bool(self.in_flight)
        assert self.queue.oldest == (self.waiting[0].since if self.waiting else None)


PublishQueueMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestPublishQueue = PublishQueueMachine.TestCase
