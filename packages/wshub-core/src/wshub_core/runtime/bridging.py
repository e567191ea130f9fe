"""The hub's side of a bridge: what is forwarded, and which channels are to be carried."""

import asyncio
from asyncio import Future
from collections.abc import Collection

from wshub_core.runtime.bridge import Bridge
from wshub_core.runtime.clock import Clock
from wshub_core.runtime.session import Session
from wshub_core.runtime.timeouts import Timeouts
from wshub_core.state.registry import Registry
from wshub_core.values.bridging import BridgeState
from wshub_core.values.errors import BridgeAttachedError

LINGER_SECONDS = 1.0
"""How long a channel without subscribers is still carried: a page that is loaded anew leaves and
comes back."""

_CONFIRM_SECONDS = 1.0
"""How long a client's frames wait for the bridge to carry a channel it has subscribed to."""


class Bridging:
    """Has a bridge carry the channels that somebody listens to here, or did a moment ago.

    Args:
        clock: The clock to go by.
        registry: Who is subscribed to what.

    Attributes:
        bridge: What carries messages to other hubs; None if there are none.
    """

    def __init__(self, clock: Clock, registry: Registry[Session]) -> None:
        self.bridge: Bridge | None = None
        self._registry = registry
        self._needs_all = False
        self._lingering: Timeouts[str] = Timeouts(clock, LINGER_SECONDS, self._let_go)

    @property
    def reserved_bytes(self) -> int:
        """How many bytes of each message are the bridge's."""
        return 0 if self.bridge is None else self.bridge.overhead_bytes

    @property
    def channels(self) -> Collection[str]:
        """The channels that are to be carried, but for those nobody listens to any more."""
        return self._registry.channels

    def attach(self, bridge: Bridge) -> None:
        """Have a bridge carry messages; see `Hub.attach`."""
        if self.bridge is not None:
            raise BridgeAttachedError
        self.bridge = bridge
        for channel in self.channels:
            bridge.subscribe(channel)
        if self._needs_all:
            bridge.subscribe_all()

    def detach(self) -> None:
        """Do without the bridge."""
        self._lingering.cancel()
        self.bridge = None

    def forward(self, channel: str, payload: bytes) -> None:
        """Give a message to the other hubs, if there are any; empty stands for a broadcast."""
        if self.bridge is not None:
            self.bridge.forward(channel, payload)

    def carry(self, channel: str) -> Future[None] | None:
        """Have a channel carried.

        Returns:
            When messages of other hubs will arrive; None for now, or if there are none.
        """
        if self.bridge is None:
            return None
        self._lingering.discard(channel)
        return self.bridge.subscribe(channel)

    async def subscribe_all(self) -> None:
        """Have every channel carried; see `Hub.subscribe_all`."""
        self._needs_all = True
        if self.bridge is not None:
            await self.confirm(self.bridge.subscribe_all())

    async def confirm(self, carried: Future[None] | None) -> bool:
        """Wait until a channel is carried, but not for an outage to end.

        Returns:
            Whether it is.
        """
        if carried is None:
            return True
        if self.bridge is not None and self.bridge.state == BridgeState.UP:
            await asyncio.wait([carried], timeout=_CONFIRM_SECONDS)
        return carried.done()

    def note_empty(self, channel: str) -> None:
        """Note that the last subscriber of a channel has left."""
        if self.bridge is not None:
            self._lingering.add(channel)

    def _let_go(self, channel: str) -> None:
        if self.bridge is not None and self._registry.subscriber_count(channel) == 0:
            self.bridge.unsubscribe(channel)
