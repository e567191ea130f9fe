from wshub_core.state.outbox import Outbox
from wshub_core.state.prepared import PreparedMessage

TEN_BYTES = PreparedMessage(b"12345678")


def test_messages_come_out_in_order_and_once() -> None:
    outbox = Outbox(1_000)
    messages = [PreparedMessage(bytes([number])) for number in range(5)]
    for message in messages:
        assert outbox.push(message)
    assert outbox.take() == messages
    assert outbox.take() == []


def test_the_limit_is_exact() -> None:
    outbox = Outbox(30)
    assert [outbox.push(TEN_BYTES) for _ in range(4)] == [True, True, True, False]
    assert len(outbox.messages) == 3


def test_what_the_transport_holds_counts() -> None:
    outbox = Outbox(30)
    outbox.push(TEN_BYTES)
    outbox.push(TEN_BYTES)
    outbox.take()
    outbox.set_unsent(15)
    assert outbox.push(TEN_BYTES)
    assert not outbox.push(TEN_BYTES)
    outbox.set_unsent(0)
    assert outbox.push(TEN_BYTES)


def test_a_sealed_outbox_is_empty_and_served_from_everything() -> None:
    outbox = Outbox(30)
    outbox.push(TEN_BYTES)
    outbox.seal()
    assert outbox.messages == []
    assert outbox.position > 10**15
    assert not outbox.push(TEN_BYTES)
