"""The interest: which channels a hub wants its bridge to carry, and for how long."""

from asyncio import Future
from collections.abc import Callable

from wshub_core.runtime.bridge import Bridge
from wshub_core.runtime.clock import Clock
from wshub_core.runtime.timeouts import Timeouts

LINGER_SECONDS = 1.0
"""How long a channel without subscribers is still carried: a page that is loaded anew leaves and
comes back."""


class Interest:
    """Has a bridge carry the channels that have subscribers here, or had a moment ago.

    Args:
        bridge: The bridge.
        clock: The clock to go by.
        has_subscribers: Tells whether a channel has any.
    """

    def __init__(
        self, bridge: Bridge, clock: Clock, has_subscribers: Callable[[str], bool]
    ) -> None:
        self._bridge = bridge
        self._has_subscribers = has_subscribers
        self._lingering: Timeouts[str] = Timeouts(clock, LINGER_SECONDS, self._let_go)

    def add(self, channel: str) -> Future[None] | None:
        """Note a subscription; return what `Bridge.subscribe` returns."""
        self._lingering.discard(channel)
        return self._bridge.subscribe(channel)

    def note_empty(self, channel: str) -> None:
        """Note that the last subscriber has left."""
        self._lingering.add(channel)

    def close(self) -> None:
        """Ask for nothing more."""
        self._lingering.cancel()

    def _let_go(self, channel: str) -> None:
        if not self._has_subscribers(channel):
            self._bridge.unsubscribe(channel)
