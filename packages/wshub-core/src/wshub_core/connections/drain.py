"""The drain: closes the connections of a hub over a window, so that clients return evenly."""

import asyncio
from collections.abc import Iterable
from math import ceil

from wshub_core.connections.admission import Admission
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.lifecycle import Lifecycle
from wshub_core.loop.clock import Clock, Timer
from wshub_core.protocol.registry import Registry
from wshub_core.values.closing import RECONNECT_NOW, CloseCode, DisconnectCause

_SHORTEST_PAUSE = 0.02
"""Shortest time in seconds between two steps. With more clients, each step closes several."""


class Drain:
    """Refuses new clients, and closes the connections of a hub one after the other.

    Args:
        clock: The hub's clock.
        registry: The hub's connections.
        admission: Refuses new clients from the beginning of the drain on.
        lifecycle: Closes connections.

    Attributes:
        has_begun: True from the beginning of the drain on.
    """

    def __init__(
        self,
        clock: Clock,
        registry: Registry[ServerConnection],
        admission: Admission,
        lifecycle: Lifecycle,
    ) -> None:
        self.has_begun = False
        self._clock = clock
        self._registry = registry
        self._admission = admission
        self._lifecycle = lifecycle
        self._deadline = 0.0
        self._timer: Timer | None = None
        # The connections that are not closed yet, and others that have ended by themselves.
        self._waiting: list[ServerConnection] = []
        self._all_closed = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    async def run(self, window: float) -> None:
        """Drain the hub, or wait for the drain that is under way.

        If the call is cancelled, the drain goes on.

        Args:
            window: The time over which the closes are spread, in seconds.
        """
        if self._draining is None:
            self.has_begun = True
            self._deadline = self._clock.time() + window
            self._admission.drain()
            # A separate task goes on when the caller is cancelled.
            self._draining = asyncio.create_task(self._drain())
        await asyncio.shield(self._draining)

    def stop(self) -> None:
        """Stop the drain, because the hub closes all connections at once."""
        if self._timer is not None:
            self._timer.cancel()
        self._all_closed.set()

    async def _drain(self) -> None:
        connections = self._registry.connections
        self._close_next()
        waiting = asyncio.create_task(self._stop_when_gone(connections))
        try:
            await self._all_closed.wait()
        finally:
            waiting.cancel()
        await self._lifecycle.end_transports()

    async def _stop_when_gone(self, connections: Iterable[ServerConnection]) -> None:
        """Stop the drain when all connections have ended, some of them by themselves.

        Otherwise, the drain would go on until the turn of the next connection.
        """
        for connection in connections:
            await connection.wait_gone()
        self.stop()

    def _close_next(self) -> None:
        """Close the connections whose turn it is, and set the timer for the next ones."""
        if not self._waiting:
            # At the beginning. Handshakes under way are refused at their end, so no others follow.
            self._waiting.extend(self._registry.connections)
        count = len(self._waiting)
        left = max(self._deadline - self._clock.time(), 0.0)
        # Whole connections first, and then the pause that fits them, so that the rate is even.
        step = ceil(count * _SHORTEST_PAUSE / left) if left else count
        self._close(step)
        if not len(self._registry):
            self._all_closed.set()
            return
        due = self._clock.time() + left * step / count
        self._timer = self._clock.call_at(due, self._close_next)

    def _close(self, count: int) -> None:
        while count and self._waiting:
            if self._lifecycle.close(
                self._waiting.pop(),
                DisconnectCause.SERVER_CLOSED,
                CloseCode.SERVICE_RESTART,
                RECONNECT_NOW,
            ):
                count -= 1
