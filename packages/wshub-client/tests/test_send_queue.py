from hypothesis import given
from hypothesis import strategies as st

from wshub_client import QueueLimits
from wshub_client.send_queue import QueuedMessage, SendQueue
from wshub_core import Message


def waiting(text: str, since: float = 0.0) -> QueuedMessage:
    return QueuedMessage(Message(type="event", data=text), text, since)


def test_the_oldest_message_is_dropped_when_there_are_too_many() -> None:
    queue = SendQueue(QueueLimits(messages=2))
    assert [queue.add(waiting(text)) for text in "abc"] == [0, 0, 1]
    assert [queue.take().text for _ in range(2)] == ["b", "c"]


def test_the_oldest_messages_are_dropped_when_there_are_too_many_bytes() -> None:
    queue = SendQueue(QueueLimits(bytes=10))
    assert [queue.add(waiting(text)) for text in ("aaaa", "bbbb", "cccccc")] == [0, 0, 1]
    assert queue.add(waiting("d" * 11)) == 3
    assert len(queue) == 0
    assert queue.add(waiting("e" * 10)) == 0


def test_expired_messages_are_dropped() -> None:
    queue = SendQueue(QueueLimits(age=60.0))
    for since in (0.0, 30.0, 90.0):
        queue.add(waiting(str(since), since))
    assert queue.expire(60.0) == 0
    assert queue.expire(91.0) == 2
    assert queue.take().text == "90.0"


def test_a_message_that_is_put_back_is_the_next() -> None:
    queue = SendQueue(QueueLimits(messages=2))
    for text in "ab":
        queue.add(waiting(text))
    queue.put_back(queue.take())
    assert queue.add(waiting("c")) == 1
    assert [queue.take().text for _ in range(2)] == ["b", "c"]


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=60))
def test_the_bounds_hold_and_every_dropped_message_is_counted(
    steps: list[tuple[int, bool]],
) -> None:
    queue = SendQueue(QueueLimits(messages=5, bytes=40, age=10.0))
    added = dropped = taken = 0
    for now, (size, takes) in enumerate(steps):
        dropped += queue.expire(float(now))
        if takes and len(queue):
            queue.take()
            taken += 1
        else:
            dropped += queue.add(waiting("x" * size, float(now)))
            added += 1
        assert len(queue) <= 5
    held = [queue.take() for _ in range(len(queue))]
    assert sum(len(each.text) for each in held) <= 40
    assert added == dropped + taken + len(held)
