"""A bridge in memory, for tests of programs with several hubs."""

import time
from asyncio import Future
from types import TracebackType
from typing import Self

from wshub_core.bridge.presence_store import PresenceStore
from wshub_core.bridge.state import BridgeState
from wshub_core.hub import Hub
from wshub_core.loop.clock import Clock
from wshub_core.presence.local import LocalPresence
from wshub_core.values.channels import BROADCAST


class MemoryExchange:
    """The broker of memory bridges; see `MemoryBridge`.

    Args:
        clock: The clock for the delays of presence; the system's monotonic clock if None.

    Attributes:
        bridges: The attached bridges.
        presence: The members of the channels of all hubs.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.bridges: list[MemoryBridge] = []
        self.presence: PresenceStore = LocalPresence(clock.time if clock else time.monotonic)


class MemoryBridge:
    """A bridge between hubs of one process, for tests of programs with several hubs.

    ::

        exchange = MemoryExchange()
        async with Hub() as here, Hub() as there:
            async with MemoryBridge(here, exchange), MemoryBridge(there, exchange):
                ...

    Args:
        hub: A hub that has been entered.
        exchange: The exchange, which the bridges of all hubs share.
    """

    state = BridgeState.UP
    overhead_bytes = 0

    def __init__(self, hub: Hub, exchange: MemoryExchange) -> None:
        self._port = hub.bridge_port
        self._exchange = exchange
        self._channels: set[str] = set()
        self._needs_all = False

    async def __aenter__(self) -> Self:
        self._port.attach(self, presence=self._exchange.presence)
        self._exchange.bridges.append(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._port.withdraw_presence()
        self._exchange.bridges.remove(self)
        self._port.detach()

    def forward(self, channel: str, payload: bytes) -> None:
        """Pass a message to the other bridges."""
        for bridge in self._exchange.bridges:
            if bridge is not self:
                bridge.take(channel, payload)

    def take(self, channel: str, payload: bytes) -> None:
        """Deliver a message of another hub, if this hub is subscribed to its channel."""
        if channel == BROADCAST or self._needs_all or channel in self._channels:
            self._port.deliver(channel, payload)

    def subscribe(self, channel: str) -> Future[None] | None:
        """Deliver the messages of a channel from now on; see `wshub_core.Bridge.subscribe`."""
        self._channels.add(channel)
        return None

    def subscribe_all(self) -> Future[None] | None:
        """Deliver the messages of every channel from now on."""
        self._needs_all = True
        return None

    def unsubscribe(self, channel: str) -> None:
        """Stop delivering the messages of a channel."""
        self._channels.discard(channel)

    async def drain(self) -> None:
        """Return at once; messages never wait in this bridge."""
