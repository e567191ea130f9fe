"""The heartbeat wheel: the time of each connection's next ping, and of its end by silence.

One wheel serves all connections. Each connection stands in the slot of its next check: a ping every
interval, and the end exactly when its silence reaches the timeout. New connections take the slots
in turn, so that connections that arrive at once are not pinged at once.
"""

import math
from itertools import count
from typing import Generic, NamedTuple, Protocol, TypeVar

SLOTS = 64
"""Number of slots for one interval; a check is at most one slot late."""


class Beating(Protocol):
    """A member of the wheel. The wheel reads `last_heard` and writes the other two.

    Attributes:
        last_heard: Time of the last byte; infinity while the member is not read.
        next_ping: Time of the next ping.
        slot: Index of the member's slot.
    """

    last_heard: float
    next_ping: float
    slot: int


B = TypeVar("B", bound=Beating)


class Due(NamedTuple, Generic[B]):
    """The members with something due now: a ping, or the end."""

    to_ping: list[B]
    silent: list[B]


class HeartbeatWheel(Generic[B]):
    """The members by the time of their next check.

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
        self._slots: list[set[B]] = [set() for _ in range(SLOTS)]
        self._phases = count(1)
        # Silence before this time does not count: the program stood still and read nothing.
        self._heard_all = -math.inf

    @property
    def next_tick(self) -> float:
        """Time of the next slot, at which `advance` has something to do."""
        return self._start + (self._ticks + 1) * self._tick

    def add(self, member: B) -> None:
        """Add a member; its first ping is due within one interval."""
        phase = next(self._phases) % SLOTS + 1
        member.next_ping = self._start + (self._ticks + phase) * self._tick
        self._place(member, phase)

    def discard(self, member: B) -> None:
        """Remove a member, if it is in the wheel."""
        self._slots[member.slot].discard(member)

    def advance(self, now: float) -> Due[B]:
        """Turn the wheel to the present and return the members that are due.

        Silent members are removed from the wheel.
        """
        due: Due[B] = Due([], [])
        if now > self.next_tick + self._interval:
            # The program stood still. No member was pinged, so none had a reason to answer.
            self._heard_all = now - self._interval
        # After a long pause one full turn is enough: it visits every slot.
        due_ticks = int((now - self._start) / self._tick)
        self._ticks = max(self._ticks, due_ticks - SLOTS)
        while self._ticks < due_ticks:
            self._ticks += 1
            slot = self._ticks % SLOTS
            members, self._slots[slot] = self._slots[slot], set()
            for member in members:
                self._place_next(member, now, due)
        return due

    def _place_next(self, member: B, now: float, due: Due[B]) -> None:
        last_heard = max(member.last_heard, self._heard_all)
        if now - last_heard >= self._timeout:
            due.silent.append(member)
            return
        if now >= member.next_ping - self._tick / 2:
            due.to_ping.append(member)
            member.next_ping = max(member.next_ping + self._interval, now + self._tick)
        next_check = min(member.next_ping, last_heard + self._timeout)
        # Rounded up, and never into the slot that is being emptied.
        ticks = int((next_check - self._start) / self._tick + 0.999) - self._ticks
        self._place(member, min(max(ticks, 1), SLOTS))

    def _place(self, member: B, ticks: int) -> None:
        member.slot = (self._ticks + ticks) % SLOTS
        self._slots[member.slot].add(member)
