from hypothesis import given
from hypothesis import strategies as st

from wshub_core.protocol.outbox import Outbox
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.values.config import Overflow

TEN_BYTES = PreparedMessage(b"12345678")


def test_messages_come_out_in_order_and_once() -> None:
    outbox = Outbox(1_000)
    messages = [PreparedMessage(bytes([number])) for number in range(5)]
    for message in messages:
        assert outbox.push(message)
    assert outbox.take(10**9) == messages
    assert outbox.take(10**9) == []


def test_the_limit_is_exact() -> None:
    outbox = Outbox(30)
    assert [outbox.push(TEN_BYTES) for _ in range(4)] == [True, True, True, False]
    assert len(outbox.messages) == 3


def test_what_the_transport_holds_counts() -> None:
    outbox = Outbox(30)
    outbox.push(TEN_BYTES)
    outbox.push(TEN_BYTES)
    outbox.take(10**9)
    outbox.unsent_bytes = 15
    assert outbox.push(TEN_BYTES)
    assert not outbox.push(TEN_BYTES)
    outbox.unsent_bytes = 0
    assert outbox.push(TEN_BYTES)


def test_as_much_is_taken_as_is_asked_for_and_at_least_one() -> None:
    outbox = Outbox(1_000)
    messages = numbered(5)
    for message in messages:
        outbox.push(message)
    assert outbox.take(25) == messages[:2]
    assert outbox.queued_bytes == 30
    assert outbox.take(1) == messages[2:3]
    assert outbox.take(20) == messages[3:]
    assert outbox.queued_bytes == 0


def numbered(count: int) -> list[PreparedMessage]:
    return [PreparedMessage(b"%08d" % number) for number in range(count)]


def test_the_policy_close_leaves_it_to_the_caller() -> None:
    outbox = Outbox(30, "close")
    for message in numbered(3):
        outbox.push(message)
    assert not outbox.overflow(TEN_BYTES)
    assert len(outbox.messages) == 3
    assert outbox.dropped == 0


def test_the_policy_drop_newest_drops_the_message() -> None:
    outbox = Outbox(30, "drop_newest")
    messages = numbered(3)
    for message in messages:
        outbox.push(message)
    assert outbox.overflow(TEN_BYTES)
    assert outbox.messages == messages
    assert outbox.dropped == 1


def test_the_policy_drop_oldest_makes_just_enough_room() -> None:
    outbox = Outbox(30, "drop_oldest")
    messages = numbered(3)
    for message in messages:
        outbox.push(message)
    big = PreparedMessage(b"x" * 13)
    assert outbox.overflow(big)
    assert outbox.messages == [messages[2], big]
    assert outbox.dropped == 2
    assert outbox.queued_bytes == 25


def test_what_the_transport_holds_cannot_be_dropped() -> None:
    outbox = Outbox(30, "drop_oldest")
    outbox.unsent_bytes = 25
    assert not outbox.push(TEN_BYTES)
    assert outbox.overflow(TEN_BYTES)
    assert outbox.messages == []
    assert outbox.dropped == 1


@given(
    st.sampled_from(["close", "drop_oldest", "drop_newest"]),
    st.lists(st.integers(0, 40) | st.none()),
)
def test_nothing_is_lost_without_being_counted(
    overflow: Overflow, program: list[int | None]
) -> None:
    outbox = Outbox(60, overflow)
    pushed = taken = refused = 0
    for step in program:
        if step is None:
            taken += len(outbox.take(10**9))
            continue
        message = PreparedMessage(b"x" * step)
        pushed += 1
        if not outbox.push(message) and not outbox.overflow(message):
            refused += 1
        assert outbox.queued_bytes == sum(each.size for each in outbox.messages) <= 60
    assert pushed == taken + len(outbox.messages) + outbox.dropped + refused


def test_a_sealed_outbox_is_empty_and_served_from_everything() -> None:
    outbox = Outbox(30)
    outbox.push(TEN_BYTES)
    outbox.close()
    assert outbox.messages == []
    assert outbox.position > 10**15
    assert not outbox.push(TEN_BYTES)
