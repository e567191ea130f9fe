"""The methods of a hub for its operation: the part of `Hub` that a deployment needs."""

from math import isfinite
from typing import TYPE_CHECKING

from wshub_core.bridge.state import BridgeState
from wshub_core.connections.running_hub import RunningHub
from wshub_core.values.errors import InvalidConfigError
from wshub_core.values.stats import HubStats

if TYPE_CHECKING:
    from wshub_core.endpoints.health import HealthApp


class HubOperation:
    """The base of `Hub` with the methods for its operation.

    A subclass defines `_get_running`.
    """

    _running: RunningHub | None

    def _get_running(self) -> RunningHub:
        """Return the running hub, or raise an error."""
        raise NotImplementedError

    def stats(self) -> HubStats:
        """Return the current numbers and the running totals of this process."""
        if self._running is None:
            return HubStats(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        return self._running.stats()

    async def drain_connections(self, window: float = 30.0) -> None:
        """Move the clients to other hubs, before this hub is closed.

        From now on the hub refuses clients with status 503. It closes its connections with code
        1012 and the reason ``retry-after: 0``, spread evenly over the window, so that the clients
        return evenly. Each client first receives its queued messages. The call returns when all
        connections have ended: at most the window and twice ``close_timeout`` later.

        The hub delivers and publishes as before. Call `close` at the end; a drained hub accepts no
        more clients. A second call waits for the same end, whatever its window. If a call is
        cancelled, the drain goes on. If the hub is closed meanwhile, the drain ends at once.

        Args:
            window: The time over which the closes are spread, in seconds; 0 closes all connections
                at once.

        Raises:
            InvalidConfigError: The window is negative or not finite.
            WSHubError: As `publish` does for a hub that does not run.
        """
        if not (isfinite(window) and window >= 0):
            raise InvalidConfigError(f"window must be 0 or a number of seconds, not {window}")
        await self._get_running().drain.run(window)

    def health(self, *, needs_bridge: bool = False) -> "HealthApp":
        """Return an ASGI application for the health checks ``/healthz`` and ``/readyz``.

        ``/healthz`` answers 200 while the process serves requests. ``/readyz`` answers 200 while
        the hub accepts clients, and 503 before its start, during a drain and after its end.

        Args:
            needs_bridge: Whether ``/readyz`` also answers 503 without a bridge, and while the
                bridge is down. An outage of the broker then stops the traffic of all hubs.
        """
        from wshub_core.endpoints.health import HealthApp  # only a hub with health checks loads it

        return HealthApp(self, needs_bridge=needs_bridge)

    @property
    def is_accepting(self) -> bool:
        """True if the hub runs and is not being drained, so that it accepts clients."""
        running = self._running
        return running is not None and not running.is_over and not running.drain.has_begun

    @property
    def bridge_state(self) -> BridgeState | None:
        """The state of the bridge; None without one."""
        return None if self._running is None else self._running.relay.bridge_state
