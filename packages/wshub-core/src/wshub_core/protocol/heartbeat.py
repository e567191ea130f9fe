"""The heartbeat wheel: the times of pings and of the silence limit, for all connections.

A timer per connection would be expensive, so one wheel with a fixed number of slots serves all.
Each connection stands in the slot of its next check. A connection is pinged once per interval, and
it ends when its silence reaches the timeout. New connections are spread over the slots, so that
connections that arrive at the same time are not pinged at the same time.
"""

import math
from itertools import count
from typing import Generic, NamedTuple, Protocol, TypeVar

SLOTS = 64
"""Number of slots in one interval. A check is late by the time of one slot at most."""


class Member(Protocol):
    """A member of the wheel. The wheel reads `last_heard` and writes the other attributes.

    Attributes:
        last_heard: Time of the last sign of life; infinity while the member is not read.
        next_ping: Time of the next ping.
        slot: Index of the member's slot.
    """

    last_heard: float
    next_ping: float
    slot: int


M = TypeVar("M", bound=Member)


class Due(NamedTuple, Generic[M]):
    """The members that need an action now.

    Attributes:
        to_ping: The members whose ping is due.
        silent: The members whose silence has reached the timeout.
    """

    to_ping: list[M]
    silent: list[M]


class HeartbeatWheel(Generic[M]):
    """A timer wheel of members, by the time of their next check.

    Args:
        interval: Time between two pings, in seconds.
        timeout: Longest silence, in seconds; above the interval.
        now: Time at which the wheel starts to turn.
    """

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._tick = interval / SLOTS
        self._start = now
        self._ticks = 0
        self._slots: list[set[M]] = [set() for _ in range(SLOTS)]
        self._phases = count(1)
        # Silence before this time does not count, because the process stood still and read nothing.
        self._silence_start = -math.inf

    @property
    def next_tick(self) -> float:
        """Time of the next slot, when `advance` is to be called."""
        return self._start + (self._ticks + 1) * self._tick

    def add(self, member: M) -> None:
        """Add a member; its first ping is due within one interval."""
        # From 1 to SLOTS: phase 0 would be the current slot, which `advance` has passed.
        phase = next(self._phases) % SLOTS + 1
        member.next_ping = self._start + (self._ticks + phase) * self._tick
        self._place(member, phase)

    def discard(self, member: M) -> None:
        """Remove a member, if it is in the wheel."""
        self._slots[member.slot].discard(member)

    def advance(self, now: float) -> Due[M]:
        """Turn the wheel to the current time and return the members that are due.

        Silent members are removed from the wheel.
        """
        due: Due[M] = Due([], [])
        if now > self.next_tick + self._interval:
            # The process stood still for an interval and sent no pings, so no peer had to answer.
            # The silence of that time does not count.
            self._silence_start = now - self._interval
        # After a long pause one full turn is enough, because it visits every slot.
        due_ticks = int((now - self._start) / self._tick)
        self._ticks = max(self._ticks, due_ticks - SLOTS)
        while self._ticks < due_ticks:
            self._ticks += 1
            slot = self._ticks % SLOTS
            members, self._slots[slot] = self._slots[slot], set()
            for member in members:
                self._place_next(member, now, due)
        return due

    def _place_next(self, member: M, now: float, due: Due[M]) -> None:
        """Check a member: report what is due, and place it in the slot of its next check."""
        last_heard = max(member.last_heard, self._silence_start)
        if now - last_heard >= self._timeout:
            due.silent.append(member)
            return
        # Half a slot of tolerance: rounding must not delay a ping by a whole slot.
        if now >= member.next_ping - self._tick / 2:
            due.to_ping.append(member)
            # After a standstill, missed pings are not sent later.
            member.next_ping = max(member.next_ping + self._interval, now + self._tick)
        next_check = min(member.next_ping, last_heard + self._timeout)
        # Rounded up, because a check that is too early would find nothing. At least one slot ahead,
        # because the current slot is being emptied.
        ticks = int((next_check - self._start) / self._tick + 0.999) - self._ticks
        self._place(member, min(max(ticks, 1), SLOTS))

    def _place(self, member: M, ticks: int) -> None:
        member.slot = (self._ticks + ticks) % SLOTS
        self._slots[member.slot].add(member)
