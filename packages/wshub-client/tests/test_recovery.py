"""The position in the history of a channel, against a model of a hub and of its faults."""

from collections import deque
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wshub_client import Gap
from wshub_client.recovery import Recovery, Step
from wshub_core import InvalidHistoryRequestError, Message, MessageType, Position


def stored(epoch: str, offset: int) -> Message:
    return Message(type="event", channel="a", epoch=epoch, offset=offset)


def notice(kind: MessageType, epoch: str, offset: int) -> Message:
    return Message(type=kind, channel="a", data={"epoch": epoch, "offset": offset})


class ModelHub:
    """A hub with the history of one channel: the newest messages, up to `limit`."""

    def __init__(self, limit: int) -> None:
        self.epoch = "e1"
        self.offset = 0
        self.first = 1
        self.epochs = 1
        self._limit = limit

    def publish(self) -> Message:
        self.offset += 1
        self.first = max(self.first, self.offset + 1 - self._limit)
        return stored(self.epoch, self.offset)

    def begin_epoch(self) -> None:
        self.epochs += 1
        self.epoch, self.offset, self.first = f"e{self.epochs}", 0, 1

    def answer(self, request: dict[str, Any] | None) -> tuple[dict[str, Any], list[Message]]:
        """Return the data of the answer, and the messages behind it."""
        after = self.offset
        outcome: dict[str, Any] = {}
        if request is not None:
            after, outcome = self._plan(request)
        position = {"epoch": self.epoch, "offset": self.offset, "first": self.first}
        messages = [stored(self.epoch, each) for each in range(after + 1, self.offset + 1)]
        return {**position, "after": after, **outcome}, messages

    def _plan(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if request.get("epoch", self.epoch) != self.epoch:
            return self.first - 1, {"recovered": False, "reason": "foreign_epoch"}
        since = request["since"] if "since" in request else max(0, self.offset - request["last"])
        if since > self.offset:
            return self.first - 1, {"recovered": False, "reason": "future_offset"}
        if since < self.first - 1:
            missing = {"reason": "trimmed", "missing": self.first - 1 - since}
            return self.first - 1, {"recovered": False, **missing}
        return since, {"recovered": True}


class Run:
    """One client of a `ModelHub`, and the frames between them."""

    def __init__(self, hub: ModelHub, recovery: Recovery) -> None:
        self.hub = hub
        self.recovery = recovery
        self.seen: list[Message | Gap] = []
        self._to_hub: deque[dict[str, Any] | None] = deque()
        self._to_client: deque[dict[str, Any] | Message] = deque()
        self._is_subscribed = False
        self.connect()
        self.exchange()

    def connect(self) -> None:
        """Lose the connection, with everything on it, and connect again."""
        self._to_hub.clear()
        self._to_client.clear()
        self._is_subscribed = False
        self.recovery.lose_connection()
        self._to_hub.append(self.recovery.make_request())

    def connect_subscribed(self) -> None:
        """Connect again to a hub that subscribes its connections by itself."""
        self.connect()
        self._is_subscribed = True

    def serve(self) -> None:
        """Let the hub serve the next request."""
        if self._to_hub:
            answer, messages = self.hub.answer(self._to_hub.popleft())
            self._is_subscribed = True
            self._to_client += [answer, *messages]

    def publish(self) -> None:
        self._send(self.hub.publish())

    def lose_message(self) -> None:
        """Publish a message that does not reach the client: its outbox is full, for example."""
        self.hub.publish()

    def lose_frame(self) -> None:
        """Lose the first message on its way, which may come from the history."""
        first = next((each for each in self._to_client if isinstance(each, Message)), None)
        if first is not None and first.epoch:
            self._to_client.remove(first)

    def publish_unstored(self) -> None:
        self._send(Message(type="event", channel="a"))

    def repeat_message(self) -> None:
        frames = [each for each in self._to_client if isinstance(each, Message)]
        self._to_client += [each for each in frames if each.epoch == self.hub.epoch][:1]

    def restart(self) -> None:
        """Lose the history, and tell the position."""
        self.hub.begin_epoch()
        self._send(notice(MessageType.HISTORY_POSITION, self.hub.epoch, 0))

    def clear(self) -> None:
        self.hub.begin_epoch()
        self._send(notice(MessageType.HISTORY_CLEARED, self.hub.epoch, 0))

    def be_unavailable(self) -> None:
        """Let the hub serve the next request while it cannot read the history."""
        if self._to_hub:
            is_asked = self._to_hub.popleft() is not None
            self._is_subscribed = True
            self._to_client.append(
                {"reason": "unavailable", **({"recovered": False} if is_asked else {})}
            )

    def read(self) -> None:
        """Let the client process the next frame."""
        if not self._to_client:
            return
        frame = self._to_client.popleft()
        if isinstance(frame, dict):
            gap = self.recovery.take_answer(frame)
            if gap is not None:
                self.seen.append(gap)
            return
        taking = self.recovery.take(frame)
        try:
            while True:
                self.seen.append(next(taking))
        except StopIteration as end:
            if end.value is Step.JUMP:
                self._to_hub.append(self.recovery.make_request())

    def fail_to_deliver(self) -> None:
        """Let the connection end while a message waits for room, which it does not get."""
        if self._to_client and isinstance(self._to_client[0], Message):
            for _ in self.recovery.take(self._to_client[0]):
                break
        self.connect()

    def exchange(self) -> None:
        """Process everything that is on its way."""
        while self._to_hub or self._to_client:
            self.serve()
            self.read()

    def _send(self, message: Message) -> None:
        if self._is_subscribed:
            self._to_client.append(message)


STEPS = [
    *(Run.serve, Run.publish, Run.publish, Run.read, Run.read, Run.lose_message, Run.exchange),
    *(Run.repeat_message, Run.connect, Run.connect_subscribed, Run.fail_to_deliver, Run.restart),
    *(Run.clear, Run.be_unavailable, Run.publish_unstored, Run.lose_frame),
]

STARTS: list[dict[str, Any]] = [{}, {"last": 3}, {"since": 0}, {"since": 2}, {"since": 2**40}]


@settings(max_examples=500, deadline=None)
@given(
    steps=st.lists(st.sampled_from(STEPS), max_size=60),
    limit=st.integers(min_value=1, max_value=8),
    start=st.sampled_from(STARTS),
)
@example(steps=[Run.publish, Run.lose_message], limit=8, start={})
@example(
    steps=[Run.lose_message, Run.publish, Run.read, Run.serve, Run.lose_frame], limit=8, start={}
)
@example(steps=[Run.publish, Run.repeat_message, Run.exchange], limit=8, start={"since": 0})
@example(steps=[Run.lose_message, Run.connect_subscribed, Run.publish], limit=8, start={"last": 3})
def test_every_message_comes_once_in_order_and_every_hole_is_a_gap(
    steps: list[Any], limit: int, start: dict[str, Any]
) -> None:
    run = Run(ModelHub(limit), Recovery("a", **start))
    for step in steps:
        step(run)
    # A last message reveals all losses.
    run.exchange()
    run.publish()
    run.exchange()
    messages = [each for each in run.seen if isinstance(each, Message) and each.epoch]
    positions = [Position(each.epoch, each.offset) for each in messages]
    assert len(set(positions)) == len(positions)
    assert run.recovery.position == positions[-1] == (run.hub.epoch, run.hub.offset)
    check_holes(run.seen, begins_at_the_start=start == {"since": 0})


def check_holes(seen: list[Message | Gap], begins_at_the_start: bool) -> None:
    """Check that every missing message between two messages is in a gap that comes between them."""
    last: Position | None = None
    missing: list[int | None] = []
    for each in seen:
        match each:
            case Gap():
                if each.reason != "unavailable" or last is None:
                    missing.append(each.missing)
            case Message(type=MessageType.HISTORY_CLEARED) if last is not None:
                # Nothing before this notice is missed.
                last, missing = Position(each.data["epoch"], 0), []
            case Message(epoch=epoch, offset=offset) if epoch:
                if last is None and begins_at_the_start:
                    last = Position(epoch, 0)
                if last is not None and last.epoch == epoch:
                    holes = offset - last.offset - 1
                    assert holes >= 0
                    assert None in missing or holes == sum(each or 0 for each in missing)
                elif last is not None:
                    assert None in missing, "another epoch is a gap of unknown size"
                last, missing = Position(epoch, offset), []


def take_all(recovery: Recovery, *messages: Message) -> list[Message | Gap]:
    """Process messages that do not jump; return everything for the application."""
    return [each for message in messages for each in recovery.take(message)]


def step_of(recovery: Recovery, message: Message) -> Step:
    taking = recovery.take(message)
    while True:
        try:
            next(taking)
        except StopIteration as end:
            step: Step = end.value
            return step


def follow(epoch: str, after: int, **start: Any) -> Recovery:
    recovery = Recovery("a", **start)
    assert recovery.take_answer({"epoch": epoch, "after": after}) is None
    return recovery


def test_a_message_moves_the_position_when_it_was_passed_on() -> None:
    recovery = follow("e1", 4)
    taking = recovery.take(stored("e1", 5))
    next(taking)
    assert recovery.position == ("e1", 4)
    taking.close()
    assert recovery.position == ("e1", 4)
    assert take_all(recovery, stored("e1", 5)) == [stored("e1", 5)]
    assert recovery.position == ("e1", 5)


def test_a_request_that_has_not_helped_is_not_sent_again() -> None:
    recovery = follow("e1", 4)
    assert step_of(recovery, stored("e1", 7)) is Step.JUMP
    assert recovery.make_request() == {"since": 4, "epoch": "e1"}
    assert take_all(recovery, stored("e1", 8)) == []  # it comes again behind the answer
    assert recovery.take_answer({"epoch": "e1", "after": 4, "recovered": True}) is None
    assert take_all(recovery, stored("e1", 7)) == [Gap("a", "skipped", 2), stored("e1", 7)]
    # The next jump is another one.
    assert step_of(recovery, stored("e1", 9)) is Step.JUMP
    recovery.lose_connection()
    recovery.take_answer({"epoch": "e1", "after": 7, "recovered": True})
    assert step_of(recovery, stored("e1", 9)) is Step.JUMP


def test_a_jump_to_another_epoch_that_stays_is_a_gap_of_unknown_size() -> None:
    recovery = follow("e1", 4)
    assert step_of(recovery, stored("e2", 7)) is Step.JUMP
    recovery.take_answer({"epoch": "e1", "after": 4, "recovered": True})
    assert take_all(recovery, stored("e2", 7)) == [Gap("a", "skipped"), stored("e2", 7)]
    assert recovery.position == ("e2", 7)


def test_a_history_that_is_unavailable_at_first_is_requested_later() -> None:
    recovery = Recovery("a", last=10)
    unavailable = {"recovered": False, "reason": "unavailable"}
    assert recovery.take_answer(unavailable) == Gap("a", "unavailable")
    assert recovery.position is None
    assert step_of(recovery, stored("e1", 7)) is Step.JUMP
    assert recovery.make_request() == {"last": 10}
    assert recovery.take_answer(unavailable) == Gap("a", "unavailable")
    assert take_all(recovery, stored("e1", 8)) == [stored("e1", 8)]
    assert recovery.make_request() == {"since": 8, "epoch": "e1"}


def test_a_position_is_taken_from_a_message_if_only_live_messages_are_wanted() -> None:
    for first in (stored("e1", 7), notice(MessageType.HISTORY_POSITION, "e1", 7)):
        recovery = Recovery("a")
        assert recovery.take_answer({"reason": "unavailable"}) is None
        assert take_all(recovery, first) == [first]
        assert recovery.position == ("e1", 7)


def test_a_notice_of_a_position_that_is_known_changes_nothing() -> None:
    recovery = follow("e1", 4)
    assert step_of(recovery, notice(MessageType.HISTORY_POSITION, "e1", 4)) is Step.DONE
    for data in (None, 5, {}, {"epoch": 5}, {"epoch": "e2", "offset": -1}):
        told = Message(type=MessageType.HISTORY_POSITION, channel="a", data=data)
        assert step_of(recovery, told) is Step.DONE
    assert recovery.position == ("e1", 4)
    # The history of the hub has more messages, or fewer: it may have lost some.
    for epoch, offset in (("e1", 3), ("e1", 5), ("e2", 4)):
        recovery = follow("e1", 4)
        assert step_of(recovery, notice(MessageType.HISTORY_POSITION, epoch, offset)) is Step.JUMP
    # The answer to the request will tell more.
    assert step_of(recovery, notice(MessageType.HISTORY_POSITION, "e2", 0)) is Step.DONE


def test_a_notice_that_a_client_has_published_is_an_ordinary_message() -> None:
    recovery = follow("e1", 4)
    forged = Message(
        type=MessageType.HISTORY_CLEARED, channel="a", data={"epoch": "x"}, epoch="e1", offset=5
    )
    assert take_all(recovery, forged) == [forged]
    assert recovery.position == ("e1", 5)


def test_messages_before_an_answer_are_dropped_only_if_they_come_again() -> None:
    messages = [stored("e1", 3), stored("e1", 5)]
    recovery = Recovery("a")
    assert take_all(recovery, *messages) == messages
    assert recovery.position is None
    starts: list[dict[str, Any]] = [{"last": 1}, {"since": 0}, {"since": Position("e1", 2)}]
    for start in starts:
        assert take_all(Recovery("a", **start), *messages) == []


def test_no_history_is_told_once_until_a_history_is_met() -> None:
    recovery = Recovery("a", since=Position("e1", 4))
    no_history = Gap("a", "no_history")
    assert recovery.take_answer(None) == no_history
    assert recovery.position is None
    for data in (None, {"recovered": False, "reason": "no_history"}, {"after": -1}, 5):
        recovery.lose_connection()
        assert recovery.take_answer(data) is None
    # Messages with a position in no known history are passed on as they are.
    messages = [stored("e1", 5), stored("e1", 5), stored("e2", 1)]
    assert take_all(recovery, *messages) == messages
    recovery.take_answer({"epoch": "e3", "after": 0})
    assert recovery.take_answer(None) == no_history
    # Without a position and without a wish there is nothing to miss.
    assert Recovery("b").take_answer(None) is None


@pytest.mark.parametrize(
    "start",
    [
        {"last": 1, "since": 1},
        {"last": -1},
        {"last": 2**53},
        {"last": True},
        {"last": 1.0},
        {"since": "0"},
        {"since": ("e1", 4)},
        {"since": Position("", 4)},
        {"since": Position("e1", -4)},
    ],
)
def test_an_invalid_start_is_refused(start: dict[str, Any]) -> None:
    with pytest.raises(InvalidHistoryRequestError):
        Recovery("a", **start)


def test_a_gap_has_a_text_for_people() -> None:
    assert str(Gap("a", "trimmed", 7)) == "a: missing messages: 7 (the hub has removed them)"
    assert str(Gap("a", "odd")) == "a: missing messages: unknown number (odd)"
