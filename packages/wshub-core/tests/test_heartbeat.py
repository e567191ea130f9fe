import math

from hypothesis import given, settings
from hypothesis import strategies as st

from wshub_core.protocol.heartbeat import SLOTS, HeartbeatWheel

INTERVAL, TIMEOUT = 30.0, 60.0
TICK = INTERVAL / SLOTS


class Member:
    """A member of the wheel, with a record of its pings and its end."""

    def __init__(self, answers: bool = True) -> None:
        self.last_heard = 0.0
        self.next_ping = 0.0
        self.slot = 0
        self.answers = answers
        self.pings: list[float] = []
        self.ended: float | None = None


def turn(wheel: HeartbeatWheel[Member], until: float) -> None:
    """Advance the wheel tick by tick."""
    while wheel.next_tick <= until:
        now = wheel.next_tick
        due = wheel.advance(now)
        for member in due.to_ping:
            member.pings.append(now)
            if member.answers:
                member.last_heard = now
        for member in due.silent:
            member.ended = now


def test_each_member_is_pinged_once_per_interval() -> None:
    wheel: HeartbeatWheel[Member] = HeartbeatWheel(INTERVAL, TIMEOUT, 0.0)
    members = [Member() for _ in range(200)]
    for member in members:
        wheel.add(member)
    turn(wheel, 10 * INTERVAL)
    for member in members:
        assert len(member.pings) == 10
        assert 0 < member.pings[0] <= INTERVAL
        gaps = [
            after - before for before, after in zip(member.pings, member.pings[1:], strict=False)
        ]
        assert all(abs(gap - INTERVAL) <= TICK for gap in gaps)
        assert member.ended is None


def test_members_that_arrive_together_are_pinged_at_different_times() -> None:
    wheel: HeartbeatWheel[Member] = HeartbeatWheel(INTERVAL, TIMEOUT, 0.0)
    for _ in range(10 * SLOTS):
        wheel.add(Member())
    sizes = []
    for _ in range(2 * SLOTS):
        sizes.append(len(wheel.advance(wheel.next_tick).to_ping))
    assert max(sizes) <= 11


@given(st.floats(0, 1_000), st.floats(0, 200))
@settings(max_examples=200)
def test_a_silent_member_ends_when_its_silence_reaches_the_timeout(
    added: float, last_sign: float
) -> None:
    wheel: HeartbeatWheel[Member] = HeartbeatWheel(INTERVAL, TIMEOUT, 0.0)
    turn(wheel, added)
    member = Member(answers=False)
    member.last_heard = added
    wheel.add(member)
    # The sign of life comes before the first silence reaches the timeout.
    sign = added + min(last_sign, TIMEOUT - 2 * TICK)
    turn(wheel, sign)
    member.last_heard = sign
    turn(wheel, sign + 3 * TIMEOUT)
    assert member.ended is not None
    assert sign + TIMEOUT <= member.ended + 1e-6
    assert member.ended <= sign + TIMEOUT + 2 * TICK


def test_a_member_that_is_not_read_does_not_end() -> None:
    wheel: HeartbeatWheel[Member] = HeartbeatWheel(INTERVAL, TIMEOUT, 0.0)
    member = Member(answers=False)
    wheel.add(member)
    member.last_heard = math.inf
    turn(wheel, 20 * TIMEOUT)
    assert member.ended is None


def test_a_discarded_member_is_not_pinged_and_does_not_end() -> None:
    wheel: HeartbeatWheel[Member] = HeartbeatWheel(INTERVAL, TIMEOUT, 0.0)
    member = Member(answers=False)
    wheel.add(member)
    wheel.discard(member)
    wheel.discard(member)
    turn(wheel, 20 * TIMEOUT)
    assert member.pings == []
    assert member.ended is None


def test_after_many_missed_ticks_each_member_gets_one_ping() -> None:
    wheel: HeartbeatWheel[Member] = HeartbeatWheel(INTERVAL, TIMEOUT, 0.0)
    members = [Member() for _ in range(100)]
    for member in members:
        wheel.add(member)
    for member in members:
        member.last_heard = 100 * INTERVAL
    due = wheel.advance(100 * INTERVAL)
    assert sorted(map(id, due.to_ping)) == sorted(map(id, members))
    assert due.silent == []
    for member in members:
        member.last_heard = 101 * INTERVAL
    due = wheel.advance(101 * INTERVAL + TICK)
    assert len(due.to_ping) == len(set(map(id, due.to_ping))) == 100
