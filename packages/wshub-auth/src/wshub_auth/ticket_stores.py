"""Ticket stores: the places where tickets wait until a client redeems them."""

import time
from collections.abc import Callable
from typing import Protocol

from wshub_core.logs import get_logger

logger = get_logger("wshub.auth")

_MAX_TICKETS = 100_000


class TicketStore(Protocol):
    """A place that keeps tickets until they are redeemed.

    If one process issues tickets and another redeems them, both need a store that they share.
    """

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Store a value under a key, for a number of seconds."""

    async def take(self, key: str) -> bytes | None:
        """Remove a value and return it, or return None if the value is missing or expired.

        If several callers take the same key at the same time, only one of them gets the value.
        """


class MemoryTicketStore:
    """A ticket store in the memory of this process.

    The store keeps at most 100,000 tickets and drops the oldest if there are more.

    Args:
        clock: Function that returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._values: dict[str, tuple[bytes, float]] = {}

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Store a value under a key, for a number of seconds."""
        now = self._clock()
        self._values[key] = value, now + seconds
        # Tickets are removed in the order of their creation, which needs no timer. With one
        # lifetime for all tickets, this is also the order in which they expire.
        while self._values and next(iter(self._values.values()))[1] <= now:
            del self._values[next(iter(self._values))]
        if len(self._values) > _MAX_TICKETS:
            logger.warning("more than %d unredeemed tickets, dropping the oldest", _MAX_TICKETS)
            del self._values[next(iter(self._values))]

    async def take(self, key: str) -> bytes | None:
        """Remove a value and return it, or return None if the value is missing or expired."""
        value, expires_at = self._values.pop(key, (None, 0.0))
        return value if self._clock() < expires_at else None
