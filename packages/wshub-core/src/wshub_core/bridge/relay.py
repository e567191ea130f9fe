"""The relay: the hub's calls to its bridge, and the channels that it subscribes the bridge to."""

import asyncio
from asyncio import Future
from collections.abc import Callable, Collection
from typing import Protocol

from wshub_core.bridge.protocol import Bridge, MeasuredBridge
from wshub_core.bridge.state import BridgeState
from wshub_core.logs import get_logger
from wshub_core.loop.clock import Clock
from wshub_core.loop.timeouts import Timeouts
from wshub_core.values.errors import BridgeAttachedError
from wshub_core.values.measurements import BridgeStats

logger = get_logger("wshub.bridge")

LINGER_SECONDS = 1.0
"""Seconds for which a channel stays bridged after its last subscriber has left. A browser that
reloads a page leaves and returns within this time."""

_CONFIRM_SECONDS = 1.0
"""Longest time in seconds for which the frames of a client wait until a new channel is bridged."""


class SubscribedChannels(Protocol):
    """The channels with subscribers on this hub."""

    @property
    def channels(self) -> Collection[str]:
        """All channels that have subscribers."""

    def subscriber_count(self, channel: str) -> int:
        """Return the number of subscribers of a channel."""


class Relay:
    """Forwards messages to the bridge, and subscribes it to the channels with subscribers here.

    All methods may be called without a bridge.

    Args:
        clock: The hub's clock.
        subscribed: The channels with subscribers here.
        on_unsubscribed: Called with a channel that has no subscribers any more, after the linger
            time if there is a bridge.
        own_channels: The channels that the hub itself needs.
    """

    def __init__(
        self,
        clock: Clock,
        subscribed: SubscribedChannels,
        on_unsubscribed: Callable[[str], None],
        own_channels: Collection[str],
    ) -> None:
        self._own_channels = own_channels
        self._on_unsubscribed = on_unsubscribed
        self._bridge: Bridge | None = None
        self._subscribed = subscribed
        # Kept for a bridge that is attached later.
        self._needs_all = False
        self._lingering: Timeouts[str] = Timeouts(clock, LINGER_SECONDS, self._unsubscribe_if_empty)

    @property
    def has_bridge(self) -> bool:
        """True if a bridge is attached."""
        return self._bridge is not None

    @property
    def bridge_state(self) -> BridgeState | None:
        """The state of the bridge; None without one."""
        return None if self._bridge is None else self._bridge.state

    def stats(self) -> BridgeStats | None:
        """Return the totals of the bridge; None if it does not report any."""
        if not isinstance(self._bridge, MeasuredBridge):
            return None
        try:
            stats = self._bridge.stats()
            # A method of this name can return something else.
            return stats if isinstance(stats, BridgeStats) else None
        except Exception:
            # The numbers of the hub itself must still be shown.
            logger.exception("the statistics of the bridge cannot be read")
            return None

    @property
    def reserved_bytes(self) -> int:
        """Number of bytes that the bridge adds to each message."""
        return 0 if self._bridge is None else self._bridge.overhead_bytes

    @property
    def channels(self) -> Collection[str]:
        """The channels that the hub needs; channels that only linger are not among them."""
        return [*self._subscribed.channels, *self._own_channels]

    def attach(self, bridge: Bridge) -> None:
        """Attach a bridge; see `BridgePort.attach`."""
        if self._bridge is not None:
            raise BridgeAttachedError
        self._bridge = bridge
        for channel in self.channels:
            bridge.subscribe(channel)
        if self._needs_all:
            bridge.subscribe_all()

    def detach(self) -> None:
        """Detach the bridge, if there is one."""
        self._lingering.cancel()
        self._bridge = None

    def forward(self, channel: str, payload: bytes) -> None:
        """Pass a message to the bridge; the channel `BROADCAST` stands for every connection."""
        if self._bridge is not None:
            self._bridge.forward(channel, payload)

    async def drain(self) -> None:
        """Wait until the bridge can take more messages."""
        if self._bridge is not None:
            await self._bridge.drain()

    def ensure_subscribed(self, channel: str) -> Future[None] | None:
        """Subscribe the bridge to a channel.

        Returns:
            A future that is done when messages of other hubs arrive; None if they arrive already,
            or without a bridge.
        """
        if self._bridge is None:
            return None
        self._lingering.discard(channel)
        return self._bridge.subscribe(channel)

    async def subscribe_all(self) -> None:
        """Subscribe the bridge to every channel; see `Hub.subscribe_all`."""
        self._needs_all = True
        if self._bridge is not None:
            await self.wait_bridged(self._bridge.subscribe_all())

    async def wait_bridged(self, bridged: Future[None] | None) -> bool:
        """Wait for at most one second until a channel is bridged; do not wait during an outage.

        Returns:
            True if the channel is bridged.
        """
        if bridged is None:
            return True
        if self._bridge is not None and self._bridge.state == BridgeState.UP:
            await asyncio.wait([bridged], timeout=_CONFIRM_SECONDS)
        return bridged.done()

    def note_empty(self, channel: str) -> None:
        """Start the linger time of a channel whose last subscriber has left."""
        if self._bridge is not None:
            self._lingering.add(channel)
        else:
            self._on_unsubscribed(channel)

    def _unsubscribe_if_empty(self, channel: str) -> None:
        if self._bridge is not None and self._subscribed.subscriber_count(channel) == 0:
            self._bridge.unsubscribe(channel)
            self._on_unsubscribed(channel)
