"""The state of a bridge, and the reports about its changes."""

from collections.abc import Callable, Iterable

from wshub_core import BridgeState
from wshub_redis.connection import SupervisedConnection, logger

NOT_RUNNING = "the bridge is not running"

_MAX_REASONS = 16
"""Maximum number of reasons that are reported in one outage, in case the server gives a different
reason every time."""


class StateReporter:
    """The state and reason of a bridge; it reports changes to the log and the application.

    Args:
        address: The address of the server, for the log.
        on_report: Called with each report.

    Attributes:
        state: The current state.
        reason: The reason why the state is not ``up``; empty if it is ``up``.
    """

    def __init__(self, address: str, on_report: Callable[[], None]) -> None:
        self.state = BridgeState.DOWN
        self.reason = NOT_RUNNING
        # Changes are not reported while the bridge starts or stops.
        self._is_reporting = False
        self._address = address
        self._on_report = on_report
        self._reported_reasons: set[str] = set()

    def start_reporting(self) -> None:
        """Report changes from now on, and the present state at once if it is not ``up``."""
        self._is_reporting = True
        if self.state != BridgeState.UP:
            self._report()

    def stop_reporting(self) -> None:
        """Report no changes from now on."""
        self._is_reporting = False

    def reset(self) -> None:
        """Return to the state of a bridge that is not running."""
        self.state, self.reason = BridgeState.DOWN, NOT_RUNNING
        self._reported_reasons.clear()

    def update(self, connections: Iterable[SupervisedConnection]) -> None:
        """Derive the state from all connections of the bridge."""
        connections = tuple(connections)
        broken = [each for each in connections if not each.is_up]
        if not broken:
            state, reason = BridgeState.UP, ""
            self._reported_reasons.clear()
        else:
            is_down = len(broken) == len(connections)
            state = BridgeState.DOWN if is_down else BridgeState.DEGRADED
            # One reason of several: in most outages all connections fail for the same one.
            reason = broken[0].reason
        is_news = self._is_new_reason(reason) or state != self.state
        self.state, self.reason = state, reason
        if self._is_reporting and is_news:
            self._report()

    def _report(self) -> None:
        # The end of an outage is a warning, too, so that a log that shows the outage shows the end.
        why = f": {self.reason}" if self.reason else ""
        logger.warning(
            "the bridge to %s is %s%s",
            self._address,
            self.state,
            why,
            extra={"kind": self.state},
        )
        self._on_report()

    def _is_new_reason(self, reason: str) -> bool:
        """Record a reason, and return whether it is to be reported."""
        reported = self._reported_reasons
        if not reason or reason in reported or len(reported) == _MAX_REASONS:
            return False
        reported.add(reason)
        return True
