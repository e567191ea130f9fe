import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wshub_core import AuthResult, DisconnectCause, Message
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.delivery import Delivery
from wshub_core.protocol.counters import Counters
from wshub_core.protocol.outbox import Outbox
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.testing import ManualClock


class ManualLoop:
    """A loop that runs a callback on request. Each reading of its clock takes a step of time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.001
        self.ready: list[Callable[[], object]] = []

    def time(self) -> float:
        self.now += self.step
        return self.now

    def call_soon(self, callback: Callable[[], object], /) -> None:
        self.ready.append(callback)

    def run_one(self) -> bool:
        """Run the next callback, if there is one."""
        if self.ready:
            self.ready.pop(0)()
            return True
        return False

    def run_all(self) -> int:
        count = 0
        while self.run_one():
            count += 1
        return count


class RecordingTransport:
    """A transport that keeps all messages; while it is full, it reports them as unsent."""

    def __init__(self) -> None:
        self.writes: list[list[PreparedMessage]] = []
        self.is_full = False

    @property
    def sent(self) -> list[PreparedMessage]:
        return [message for write in self.writes for message in write]

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        self.writes.append(list(messages))
        return sum(message.size for message in messages) if self.is_full else 0

    def unsent_bytes(self) -> int:
        return 0

    def ping(self) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class NoOwner:
    """An owner without functions, because connections in these tests get no frames."""

    clock = ManualClock()

    def subscriptions_of(self, connection: ServerConnection) -> tuple[str, ...]:
        return ()

    def send(self, connection: ServerConnection, message: Message) -> bool:
        return False

    def spawn(
        self, work: Coroutine[Any, Any, object], context: Context | None = None
    ) -> asyncio.Task[Any]:
        raise NotImplementedError

    def start_callback_timeout(self, connection: ServerConnection) -> None: ...
    def call_soon(self, callback: Callable[[], object]) -> None: ...

    def close_connection(self, connection: ServerConnection, code: int, reason: str) -> None: ...

    def serve_frame(
        self, connection: ServerConnection, payload: bytes | bytearray
    ) -> Coroutine[Any, Any, None] | None:
        return None


class Audience:
    """A delivery with connections on recording transports."""

    def __init__(self, size: int, limit: int = 1_000_000) -> None:
        self.loop = ManualLoop()
        self.overflowed: list[ServerConnection] = []
        self.counters = Counters()
        self.delivery = Delivery(self.loop, self.counters, self.end)
        self.transports = [RecordingTransport() for _ in range(size)]
        self.connections = [
            ServerConnection(
                number, "", AuthResult(True), NoOwner(), transport, Outbox(limit), Context(), 0.0
            )
            for number, transport in enumerate(self.transports)
        ]

    def serve_frame(self, answer: PreparedMessage) -> None:
        """Answer a frame of a client."""
        self.delivery.hold()
        self.delivery.fan_out(frozenset(self.connections), answer)
        self.delivery.release()

    def end(
        self, connection: ServerConnection, cause: DisconnectCause, code: int, reason: str
    ) -> bool:
        self.overflowed.append(connection)
        connection.outbox.close()
        return True


def message(number: int) -> PreparedMessage:
    return PreparedMessage(b"%d" % number)


def test_messages_of_one_round_share_one_write_per_connection() -> None:
    audience = Audience(10)
    everyone = frozenset(audience.connections)
    messages = [message(number) for number in range(8)]
    for each in messages:
        audience.delivery.fan_out(everyone, each)
    audience.loop.run_all()
    assert all(transport.writes == [messages] for transport in audience.transports)


def test_a_large_audience_is_served_in_slices() -> None:
    audience = Audience(10_000)
    first = message(1)
    audience.delivery.fan_out(frozenset(audience.connections), first)
    most_writes = 0
    before = 0
    while audience.loop.run_one():
        now = sum(len(transport.writes) for transport in audience.transports)
        most_writes = max(most_writes, now - before)
        before = now
    assert before == 10_000
    assert most_writes <= 64


def test_a_reply_does_not_wait_for_other_connections_and_keeps_its_order() -> None:
    audience = Audience(5_000)
    everyone = frozenset(audience.connections)
    first, second, reply = message(1), message(2), message(3)
    audience.delivery.fan_out(everyone, first)
    audience.loop.run_one()
    audience.delivery.fan_out(everyone, second)
    unserved = next(
        connection
        for connection, transport in zip(audience.connections, audience.transports, strict=True)
        if not transport.writes
    )
    audience.delivery.send_one(unserved, reply)
    audience.loop.run_one()
    assert audience.transports[unserved.id].sent == [first, second, reply]
    assert sum(bool(transport.writes) for transport in audience.transports) < 100
    audience.loop.run_all()
    for connection, transport in zip(audience.connections, audience.transports, strict=True):
        expected = [first, second, reply] if connection is unserved else [first, second]
        assert transport.sent == expected


def test_a_connection_that_is_not_writable_delays_no_other() -> None:
    audience = Audience(3)
    slow, slow_transport = audience.connections[0], audience.transports[0]
    slow.is_writable = False
    messages = [message(number) for number in range(3)]
    for each in messages:
        audience.delivery.fan_out(frozenset(audience.connections), each)
        audience.loop.run_all()
    assert slow_transport.sent == []
    assert audience.transports[1].sent == messages
    slow.is_writable = True
    audience.delivery.resume(slow)
    audience.loop.run_all()
    assert slow_transport.writes == [messages]


def test_bytes_that_the_transport_has_sent_no_longer_count() -> None:
    audience = Audience(1, limit=100)
    (connection,), (transport,) = audience.connections, audience.transports
    connection.is_writable = False
    connection.outbox.unsent_bytes = 95  # outdated: the transport's `unsent_bytes()` returns 0
    audience.delivery.send_one(connection, PreparedMessage(b"0123456789"))
    assert audience.overflowed == []
    connection.is_writable = True
    audience.delivery.resume(connection)
    audience.loop.run_all()
    assert len(transport.sent) == 1


def test_a_resumed_connection_gets_its_waiting_messages_in_parts() -> None:
    audience = Audience(1, limit=1_000_000)
    (connection,), (transport,) = audience.connections, audience.transports
    connection.is_writable = False
    messages = [PreparedMessage(b"x" * 10_000) for _ in range(90)]
    for each in messages:
        audience.delivery.send_one(connection, each)
    connection.is_writable = True
    audience.delivery.resume(connection)
    audience.loop.run_all()
    assert transport.sent == messages
    assert max(sum(each.size for each in write) for write in transport.writes) <= 140_000


def test_an_overflowing_connection_is_reported_once_and_gets_no_more_messages() -> None:
    audience = Audience(2, limit=50)
    slow = audience.connections[0]
    slow.is_writable = False
    for number in range(100):
        audience.delivery.fan_out(frozenset(audience.connections), message(number))
        audience.loop.run_all()
    assert audience.overflowed == [slow]
    assert audience.transports[0].sent == []
    assert len(audience.transports[1].sent) == 100


def test_replies_to_many_connections_are_served_in_slices() -> None:
    audience = Audience(5_000)
    for connection in audience.connections:
        audience.delivery.send_one(connection, message(connection.id))
    before = most_writes = 0
    while audience.loop.run_one():
        now = sum(len(transport.writes) for transport in audience.transports)
        most_writes = max(most_writes, now - before)
        before = now
    assert before == 5_000
    assert most_writes <= 64


def test_a_publisher_that_never_pauses_does_not_stop_the_writes() -> None:
    audience = Audience(2_000)
    everyone = frozenset(audience.connections)
    for number in range(200):
        audience.delivery.fan_out(everyone, message(number))
        audience.loop.run_one()
    written = sum(len(transport.writes) for transport in audience.transports)
    assert written >= 2_000


def test_the_messages_that_wait_for_fan_out_are_bounded() -> None:
    audience = Audience(10)
    big = PreparedMessage(b"x" * 60_000)
    for _ in range(1_000):
        audience.delivery.fan_out(frozenset(audience.connections), big)
    delivered = min(len(transport.sent) for transport in audience.transports)
    assert delivered > 800
    audience.loop.run_all()
    assert all(len(transport.sent) == 1_000 for transport in audience.transports)
    assert audience.overflowed == []


def test_a_transport_that_raises_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class BrokenTransport(RecordingTransport):
        is_aborted = False

        def send(self, messages: Sequence[PreparedMessage]) -> int:
            raise OSError("broken")

        def abort(self) -> None:
            self.is_aborted = True

    audience = Audience(3)
    broken = BrokenTransport()
    connection = ServerConnection(
        9, "", AuthResult(True), NoOwner(), broken, Outbox(1_000), Context(), 0.0
    )
    audience.delivery.fan_out(frozenset([*audience.connections, connection]), message(1))
    audience.loop.run_all()
    assert broken.is_aborted
    assert all(len(transport.sent) == 1 for transport in audience.transports)
    assert "writing to <Connection 9" in caplog.text


def test_a_delivery_at_once_ends_although_each_failure_publishes_again() -> None:
    """A log handler publishes the failure, and the transport fails again."""
    audience = Audience(0)

    class FailingTransport(RecordingTransport):
        sends = 0

        def send(self, messages: Sequence[PreparedMessage]) -> int:
            self.sends += 1
            if self.sends > 20:
                pytest.fail("the delivery does not end")
            audience.delivery.fan_out(frozenset([connection]), message(self.sends))
            raise OSError("broken")

    transport = FailingTransport()
    connection = ServerConnection(
        9, "", AuthResult(True), NoOwner(), transport, Outbox(1_000), Context(), 0.0
    )
    audience.delivery.hold()
    audience.delivery.fan_out(frozenset([connection]), message(0))
    audience.delivery.release()
    assert transport.sends == 1
    audience.delivery.close_outbox(connection)
    audience.loop.run_all()
    assert transport.sends == 1


def test_nothing_is_scheduled_for_an_empty_audience() -> None:
    audience = Audience(0)
    audience.delivery.fan_out(frozenset(), message(1))
    assert audience.loop.ready == []


SIZE = 700
targets = st.lists(st.integers(0, SIZE - 1), unique=True, max_size=6) | st.just(list(range(SIZE)))
steps = st.one_of(
    st.tuples(st.just("all"), targets),
    st.tuples(st.just("one"), st.integers(0, SIZE - 1)),
    st.tuples(st.just("flush"), st.integers(0, SIZE - 1)),
    st.tuples(st.just("pause"), st.integers(0, SIZE - 1)),
    st.tuples(st.just("resume"), st.integers(0, SIZE - 1)),
    st.tuples(st.just("slice"), st.integers(1, 5)),
)


@given(st.lists(steps, max_size=40))
@settings(max_examples=100, deadline=None)
def test_each_connection_gets_all_its_messages_once_and_in_order(
    program: list[tuple[str, Any]],
) -> None:
    audience = Audience(SIZE)
    expected: list[list[PreparedMessage]] = [[] for _ in range(SIZE)]
    for number, (action, argument) in enumerate(program):
        if action == "all":
            each = message(number)
            audience.delivery.fan_out(
                frozenset(audience.connections[index] for index in argument), each
            )
            for index in argument:
                expected[index].append(each)
        elif action == "one":
            each = message(number)
            audience.delivery.send_one(audience.connections[argument], each)
            expected[argument].append(each)
        elif action == "flush":
            audience.delivery.flush(audience.connections[argument])
            assert audience.transports[argument].sent == expected[argument]
        elif action == "pause":
            audience.connections[argument].is_writable = False
        elif action == "resume":
            audience.connections[argument].is_writable = True
            audience.delivery.resume(audience.connections[argument])
        else:
            for _ in range(argument):
                audience.loop.run_one()
    for connection in audience.connections:
        connection.is_writable = True
        audience.delivery.resume(connection)
    audience.loop.run_all()
    assert [transport.sent for transport in audience.transports] == expected


def test_the_answer_to_a_single_frame_does_not_wait_for_a_turn_of_the_loop() -> None:
    audience = Audience(1)
    for number in range(3):
        audience.loop.now += 0.001
        audience.serve_frame(message(number))
        assert len(audience.transports[0].writes) == number + 1
    assert not audience.loop.run_one()


def test_the_answers_to_many_frames_of_one_turn_share_a_write() -> None:
    audience = Audience(1)
    audience.loop.now, audience.loop.step = 1.0, 0.000_001
    for number in range(10):
        audience.serve_frame(message(number))
        # The event loop needs a few microseconds from one ready socket to the next.
        audience.loop.now += 0.000_005
    audience.loop.run_all()
    assert [len(each) for each in audience.transports[0].writes] == [1, 9]
