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
        self.bound: list[QueuedMessage[int]] = []
        self.time = 0.0

    @rule(size=st.integers(1, 20), has_history=st.booleans(), is_awaited=st.booleans())
    def push(self, size: int, has_history: bool, is_awaited: bool) -> None:
        self.time += 1
        confirmation = 0 if is_awaited else None
        item = QueuedMessage(b"c", b"x" * size, self.time, confirmation)
        if has_history:
            item.payload = b"y" * size
        assert item.size == size * (1 + has_history)
        fits = self.total + item.size <= LIMIT
        assert self.queue.push(item) == fits
        if fits:
            self.waiting.append(item)

    @rule(most=st.integers(1, 40))
    def take(self, most: int) -> None:
        taken = self.queue.take(most)
        assert taken == self.waiting[: len(taken)]
        del self.waiting[: len(taken)]
        # The batch is complete when the last message reaches the size, or when nothing waits.
        assert not self.waiting or sum(item.size for item in taken) >= most
        assert sum(item.size for item in taken[:-1]) < most
        self.in_flight += taken

    @precondition(lambda self: self.in_flight)
    @rule()
    def pop_answered(self) -> None:
        assert self.queue.pop_answered() is self.in_flight.pop(0)

    @precondition(lambda self: self.in_flight)
    @rule()
    def put_back(self) -> None:
        item = self.queue.pop_answered()
        self.queue.put_back(item)
        self.note_requeued(self.in_flight[1:])
        assert item.is_bound == (item in self.bound)

    @rule()
    def requeue_in_flight(self) -> None:
        self.queue.requeue_in_flight()
        self.note_requeued(self.in_flight)

    def note_requeued(self, sent: list[QueuedMessage[int]]) -> None:
        assert all(item.may_have_arrived for item in sent)
        self.waiting = self.in_flight + self.waiting
        self.in_flight = []
        self.bound += [item for item in sent if item.payload is not None]

    @rule(age=st.integers(0, 10))
    def drop(self, age: int) -> None:
        before = self.time - age
        overdue = [item for item in self.waiting if item.since <= before]
        # A history may have the bound messages, so they stay.
        assert self.queue.overdue(before) == [item for item in overdue if item in self.bound]
        for item in self.queue.overdue(before):
            item.confirmation = None
        expected = [item for item in overdue if item not in self.bound]
        assert self.queue.drop_until(before) == expected
        self.waiting = [item for item in self.waiting if item not in expected]

    @rule(numbers=st.sets(st.integers(0, 10)))
    def take_displaced(self, numbers: set[int]) -> None:
        self.queue.requeue_in_flight()
        self.note_requeued(self.in_flight)
        displaced = [item for item in self.waiting if item.since % 11 in numbers]
        assert self.queue.take_displaced(lambda item: item.since % 11 not in numbers) == displaced
        self.waiting = [item for item in self.waiting if item not in displaced]

    @rule()
    def drop_all(self) -> None:
        assert self.queue.drop_all() == self.in_flight + self.waiting
        self.waiting, self.in_flight = [], []

    @property
    def total(self) -> int:
        return sum(item.size for item in self.waiting + self.in_flight)

    @invariant()
    def the_queue_agrees_with_the_lists(self) -> None:
        assert len(self.queue) == len(self.waiting) + len(self.in_flight)
        assert list(self.queue) == self.in_flight + self.waiting
        assert self.queue.size == self.total
        assert self.queue.has_waiting == bool(self.waiting)
        assert self.queue.has_in_flight == bool(self.in_flight)
        assert [item for item in self.waiting if item.is_bound] == [
            item for item in self.waiting if item in self.bound
        ]
        times = [
            item.since
            for item in self.waiting
            if item not in self.bound or item.confirmation is not None
        ]
        assert self.queue.oldest == (times[0] if times else None)


PublishQueueMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestPublishQueue = PublishQueueMachine.TestCase
