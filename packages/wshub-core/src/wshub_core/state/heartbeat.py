"""The heartbeat: when to ping whom, and who has been silent for too long.

One wheel serves all connections. Each stands in one slot, for the moment of its next look: a ping
every interval, and the end exactly when its silence reaches the timeout. New connections take the
slots in turn, so that a crowd that came at once is not pinged at once.
"""

import math
from itertools import count
from typing import Generic, NamedTuple, Protocol, TypeVar

SLOTS = 64
"""Into how many parts an interval is cut; looks come at most one part late."""


class Beating(Protocol):
    """What the wheel keeps on each connection.

    Attributes:
        last_heard: When the last byte came; infinity while nothing is read from it.
        next_ping: When the next ping is due.
        slot: Where it stands.
    """

    last_heard: float
    next_ping: float
    slot: int


B = TypeVar("B", bound=Beating)


class Look(NamedTuple, Generic[B]):
    """What is to be done now."""

    to_ping: list[B]
    silent: list[B]


class HeartbeatWheel(Generic[B]):
    """Who is to be looked at when.

    Args:
        interval: The time between two pings, in seconds.
        timeout: The longest silence, in seconds; above the interval.
        now: The time at which the wheel starts to turn.
    """

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._tick = interval / SLOTS
        self._start = now
        self._ticks = 0
        self._slots: list[set[B]] = [set() for _ in range(SLOTS)]
        self._phases = count(1)
        # Silence is not counted before this moment: nothing was read then.
        self._heard_all = -math.inf

    @property
    def next_tick(self) -> float:
        """When `advance` has something to do again."""
        return self._start + (self._ticks + 1) * self._tick

    def add(self, member: B, now: float) -> None:
        """Take in a member, whose first ping comes within one interval."""
        phase = next(self._phases) % SLOTS + 1
        member.last_heard = now
        member.next_ping = self._start + (self._ticks + phase) * self._tick
        self._place(member, phase)

    def discard(self, member: B) -> None:
        """Let a member go, if it is there."""
        self._slots[member.slot].discard(member)

    def advance(self, now: float) -> Look[B]:
        """Turn the wheel to the present; return whom to ping, and who has been silent too long.

        The silent ones have been let go.
        """
        look: Look[B] = Look([], [])
        if now > self.next_tick + self._interval:
            # The program stood still. Nobody was pinged, so nobody had a reason to answer.
            self._heard_all = now - self._interval
        # After a long pause one turn is enough: it passes every slot.
        due_ticks = int((now - self._start) / self._tick)
        self._ticks = max(self._ticks, due_ticks - SLOTS)
        while self._ticks < due_ticks:
            self._ticks += 1
            slot = self._ticks % SLOTS
            members, self._slots[slot] = self._slots[slot], set()
            for member in members:
                self._look_at(member, now, look)
        return look

    def _look_at(self, member: B, now: float, look: Look[B]) -> None:
        last_heard = max(member.last_heard, self._heard_all)
        if now - last_heard >= self._timeout:
            look.silent.append(member)
            return
        if now >= member.next_ping - self._tick / 2:
            look.to_ping.append(member)
            member.next_ping = max(member.next_ping + self._interval, now + self._tick)
        next_look = min(member.next_ping, last_heard + self._timeout)
        # Rounded up, and never into the slot that is being emptied.
        ticks = int((next_look - self._start) / self._tick + 0.999) - self._ticks
        self._place(member, min(max(ticks, 1), SLOTS))

    def _place(self, member: B, ticks: int) -> None:
        member.slot = (self._ticks + ticks) % SLOTS
        self._slots[member.slot].add(member)
