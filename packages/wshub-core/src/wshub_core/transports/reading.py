"""Turns of reading: no peer's bytes hold the event loop, and all peers get a fair share of it."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

TURN_SECONDS = 0.002
"""How long bytes are processed before others get a turn on the event loop."""


class Loop(Protocol):
    """What reading needs of an event loop."""

    def time(self) -> float:
        """Return the time in seconds."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call back in the next round of the loop."""


class Reader(Protocol):
    """A connection that has bytes to process."""

    def process_chunk(self) -> bool:
        """Process a few of its bytes; return whether it can go on."""


class ReadingTurns:
    """Shares the time for reading among connections.

    Bytes that come while there is time are processed at once. When the connections of one round of
    the loop have used up a turn, further ones wait. They are then served in rounds, one chunk each,
    for one turn per round of the loop. So a flood delays other peers by a few milliseconds, and
    costs its sender the same share as everybody else.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: deque[Reader] = deque()
        self._is_scheduled = False
        # Time for bytes that are processed at once. It comes back half as fast as time passes.
        self._credit = TURN_SECONDS
        self._credited_at = loop.time()

    def process(self, reader: Reader) -> None:
        """Process a connection's bytes, now as far as there is time, and the rest later."""
        now = self._loop.time()
        self._credit = min(TURN_SECONDS, self._credit + (now - self._credited_at) / 2)
        self._credited_at = now
        deadline = now + self._credit
        while not self._waiting and now < deadline:
            is_unfinished = reader.process_chunk()
            now = self._loop.time()
            self._credit = deadline - now
            self._credited_at = now
            if not is_unfinished:
                return
        self.add(reader)

    def add(self, reader: Reader) -> None:
        """Have a connection's bytes processed in a later round of the loop."""
        self._waiting.append(reader)
        self._schedule()

    def _take_turn(self) -> None:
        self._is_scheduled = False
        deadline = self._loop.time() + TURN_SECONDS
        try:
            while self._waiting:
                reader = self._waiting.popleft()
                if reader.process_chunk():
                    self._waiting.append(reader)
                if self._loop.time() >= deadline:
                    break
        finally:
            # Also after an exception, which concerns one connection.
            self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._take_turn)
