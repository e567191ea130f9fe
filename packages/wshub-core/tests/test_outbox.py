from hypothesis import given
from hypothesis import strategies as st

from wshub_core.protocol.outbox import Outbox
from wshub_core.protocol.prepared import KeptMessage, PreparedMessage
from wshub_core.values.config import Overflow

TEN_BYTES = PreparedMessage(b"12345678")


def test_messages_are_popped_once_and_in_order() -> None:
    outbox = Outbox(1_000)
    messages = [PreparedMessage(bytes([number])) for number in range(5)]
    for message in messages:
        assert outbox.push(message)
    assert outbox.pop(10**9) == messages
    assert outbox.pop(10**9) == []


def test_the_limit_is_exact() -> None:
    outbox = Outbox(30)
    assert [outbox.push(TEN_BYTES) for _ in range(4)] == [True, True, True, False]
    assert len(outbox.messages) == 3


def test_unsent_bytes_of_the_transport_count_for_the_limit() -> None:
    outbox = Outbox(30)
    outbox.push(TEN_BYTES)
    outbox.push(TEN_BYTES)
    outbox.pop(10**9)
    outbox.unsent_bytes = 15
    assert outbox.push(TEN_BYTES)
    assert not outbox.push(TEN_BYTES)
    outbox.unsent_bytes = 0
    assert outbox.push(TEN_BYTES)


def test_pop_returns_up_to_max_bytes_and_at_least_one_message() -> None:
    outbox = Outbox(1_000)
    messages = numbered(5)
    for message in messages:
        outbox.push(message)
    assert outbox.pop(25) == messages[:2]
    assert outbox.queued_bytes == 30
    assert outbox.pop(1) == messages[2:3]
    assert outbox.pop(20) == messages[3:]
    assert outbox.queued_bytes == 0


def numbered(count: int) -> list[PreparedMessage]:
    return [PreparedMessage(b"%08d" % number) for number in range(count)]


def test_the_policy_close_drops_no_message() -> None:
    outbox = Outbox(30, "close")
    for message in numbered(3):
        outbox.push(message)
    assert not outbox.overflow(TEN_BYTES)
    assert len(outbox.messages) == 3
    assert outbox.dropped == 0


def test_the_policy_drop_newest_drops_the_new_message() -> None:
    outbox = Outbox(30, "drop_newest")
    messages = numbered(3)
    for message in messages:
        outbox.push(message)
    assert outbox.overflow(TEN_BYTES)
    assert outbox.messages == messages
    assert outbox.dropped == 1


def test_the_policy_drop_oldest_drops_as_few_messages_as_needed() -> None:
    outbox = Outbox(30, "drop_oldest")
    messages = numbered(3)
    for message in messages:
        outbox.push(message)
    big = PreparedMessage(b"x" * 13)
    assert outbox.overflow(big)
    assert outbox.messages == [messages[2], big]
    assert outbox.dropped == 2
    assert outbox.queued_bytes == 25


def test_unsent_bytes_of_the_transport_cannot_be_dropped() -> None:
    outbox = Outbox(30, "drop_oldest")
    outbox.unsent_bytes = 25
    assert not outbox.push(TEN_BYTES)
    assert outbox.overflow(TEN_BYTES)
    assert outbox.messages == []
    assert outbox.dropped == 1


def test_kept_messages_are_not_dropped_and_others_make_room_for_them() -> None:
    for overflow in ("drop_oldest", "drop_newest"):
        outbox = Outbox(40, overflow)
        answer = KeptMessage(b"12345678")
        messages = [answer, *numbered(3)]
        for message in messages:
            outbox.push(message)
        assert outbox.overflow(KeptMessage(b"1234567890"))
        assert outbox.messages[:2] == [answer, messages[3]]
        assert (outbox.dropped, outbox.queued_bytes) == (2, 32)


def test_the_caller_closes_the_connection_if_there_is_no_room_for_a_kept_message() -> None:
    for overflow in ("drop_oldest", "drop_newest"):
        outbox = Outbox(30, overflow)
        answers = [KeptMessage(b"%08d" % number) for number in range(3)]
        for answer in answers:
            outbox.push(answer)
        assert not outbox.overflow(KeptMessage(b"12345678"))
        assert outbox.overflow(TEN_BYTES)
        assert outbox.messages == answers
        assert outbox.dropped == 1


@given(
    st.sampled_from(["close", "drop_oldest", "drop_newest"]),
    st.lists(st.tuples(st.integers(0, 40), st.booleans()) | st.none()),
)
def test_every_dropped_message_is_counted(
    overflow: Overflow, program: list[tuple[int, bool] | None]
) -> None:
    outbox = Outbox(60, overflow)
    pushed = refused = 0
    popped: list[PreparedMessage] = []
    accepted: list[PreparedMessage] = []
    for step in program:
        if step is None:
            popped += outbox.pop(10**9)
            continue
        size, is_kept = step
        message = (KeptMessage if is_kept else PreparedMessage)(b"x" * size)
        pushed += 1
        if outbox.push(message) or outbox.overflow(message):
            accepted.append(message)
        else:
            refused += 1
            assert is_kept or overflow == "close"
        assert outbox.queued_bytes == sum(each.size for each in outbox.messages) <= 60
    left = popped + outbox.messages
    assert pushed == len(left) + outbox.dropped + refused
    # In order, and with all messages that must be kept.
    positions = [accepted.index(message) for message in left]
    assert positions == sorted(positions)
    assert {message for message in accepted if message.is_kept} <= set(left)


def test_a_closed_outbox_is_empty_and_skipped_by_delivery() -> None:
    outbox = Outbox(30)
    outbox.push(TEN_BYTES)
    outbox.close()
    assert outbox.messages == []
    assert outbox.position > 10**15
    assert not outbox.push(TEN_BYTES)
