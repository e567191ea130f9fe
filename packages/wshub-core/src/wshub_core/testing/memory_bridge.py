"""A bridge in memory, for programs with several hubs in one process."""

from asyncio import Future
from types import TracebackType
from typing import Self

from wshub_core.bridge.state import BridgeState
from wshub_core.hub import Hub
from wshub_core.values.channels import BROADCAST


class MemoryExchange:
    """Where bridges in memory meet; see `MemoryBridge`."""

    def __init__(self) -> None:
        self.bridges: list[MemoryBridge] = []


class MemoryBridge:
    """A bridge between hubs of one process, for tests of programs that use several.

    ::

        exchange = MemoryExchange()
        async with Hub() as here, Hub() as there:
            async with MemoryBridge(here, exchange), MemoryBridge(there, exchange):
                ...

    Args:
        hub: A hub that has been entered.
        exchange: What it shares with the bridges of the other hubs.
    """

    state = BridgeState.UP
    overhead_bytes = 0

    def __init__(self, hub: Hub, exchange: MemoryExchange) -> None:
        self._port = hub.bridge_port
        self._exchange = exchange
        self._channels: set[str] = set()
        self._wants_all = False

    async def __aenter__(self) -> Self:
        self._port.attach(self)
        self._exchange.bridges.append(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exchange.bridges.remove(self)
        self._port.detach()

    def forward(self, channel: str, payload: bytes) -> None:
        """Give a message to the hubs that want it."""
        for bridge in self._exchange.bridges:
            if bridge is not self:
                bridge.take(channel, payload)

    def take(self, channel: str, payload: bytes) -> None:
        """Take a message of another hub."""
        if channel == BROADCAST or self._wants_all or channel in self._channels:
            self._port.deliver(channel, payload)

    def subscribe(self, channel: str) -> Future[None] | None:
        """Want a channel, from now on."""
        self._channels.add(channel)
        return None

    def subscribe_all(self) -> Future[None] | None:
        """Want every channel, from now on."""
        self._wants_all = True
        return None

    def unsubscribe(self, channel: str) -> None:
        """Want it no more."""
        self._channels.discard(channel)

    async def drain(self) -> None:
        """Return at once: nothing ever waits."""
