"""Turns for parsing received bytes: each connection gets a fair share of the event loop's time.

One read of a socket can bring 40,000 frames, which take about a second to process. Without turns,
one flooding client would delay all others by that second.
"""

from collections import deque
from typing import Protocol

from wshub_core.loop.turns import TurningLoop

TURN_SECONDS = 0.002
"""Longest time for which bytes are processed in one round of the event loop, in seconds."""


class Reader(Protocol):
    """A connection that has unprocessed bytes."""

    def process_chunk(self) -> bool:
        """Process some bytes; return True if more can be processed now."""


class ReadingTurns:
    """Shares the time for processing received bytes among connections.

    Bytes that arrive while there is time left are processed at once. When the connections have used
    up `TURN_SECONDS` in one round of the loop, further ones wait in a queue. In each round of the
    loop, the queue gets `TURN_SECONDS`, and its connections process one chunk each in turn. A flood
    thus delays other connections by a few milliseconds, and its sender gets the same share of the
    time as every other connection.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: TurningLoop) -> None:
        self._loop = loop
        self._waiting: deque[Reader] = deque()
        self._is_scheduled = False
        # Time left for bytes that are processed at once, in seconds. It refills at half the speed
        # of the clock, so such processing takes at most about half of the loop's time.
        self._credit = TURN_SECONDS
        self._credited_at = loop.time()

    def process(self, reader: Reader) -> None:
        """Process a connection's bytes: now while there is time left, and the rest later.

        A connection must not be passed again before it has processed all its bytes.
        """
        now = self._loop.time()
        self._credit = min(TURN_SECONDS, self._credit + (now - self._credited_at) / 2)
        self._credited_at = now
        deadline = now + self._credit
        # A queue that is not empty comes first, or a connection could overtake the queue.
        while not self._waiting and now < deadline:
            is_unfinished = reader.process_chunk()
            now = self._loop.time()
            self._credit = deadline - now
            self._credited_at = now
            if not is_unfinished:
                return
        self.add(reader)

    def add(self, reader: Reader) -> None:
        """Process a connection's bytes in a later round of the loop."""
        self._waiting.append(reader)
        self._schedule()

    def _run_turn(self) -> None:
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
            # Also after an exception: it concerns one connection, and the others must go on.
            self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run_turn)
