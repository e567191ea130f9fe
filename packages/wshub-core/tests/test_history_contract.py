"""The contract of histories, for the memory of one hub and for a memory that hubs share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wshub_core import Hub, HubConfig
from wshub_core.testing import (
    HistoryContract,
    ManualClock,
    MemoryBridge,
    MemoryExchange,
    MemoryHistory,
    SharedHistoryContract,
)


class TestMemoryOfOneHub(HistoryContract):
    def setup_method(self) -> None:
        self.clock = ManualClock()

    @asynccontextmanager
    async def open_hub(self, config: HubConfig) -> AsyncIterator[Hub]:
        async with Hub(config, clock=self.clock) as hub:
            yield hub

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)


class CutBridge(MemoryBridge):
    """A bridge that can lose the messages that arrive."""

    is_cut = False

    def take_stored(
        self, channel: str, epoch: str, offset: int, payload: bytes, *, is_own: bool
    ) -> None:
        if not self.is_cut:
            super().take_stored(channel, epoch, offset, payload, is_own=is_own)


class TestSharedMemory(SharedHistoryContract):
    can_interrupt = True

    def setup_method(self) -> None:
        self.clock = ManualClock()
        self.exchange = MemoryExchange(MemoryHistory(self.clock.time))
        self.bridges: dict[Hub, CutBridge] = {}

    @asynccontextmanager
    async def open_hub(self, config: HubConfig) -> AsyncIterator[Hub]:
        async with Hub(config, clock=self.clock) as hub, CutBridge(hub, self.exchange) as bridge:
            self.bridges[hub] = bridge
            yield hub

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @asynccontextmanager
    async def interrupt(self, hub: Hub) -> AsyncIterator[None]:
        bridge = self.bridges[hub]
        bridge.is_cut = True
        yield
        bridge.is_cut = False
        bridge.resync_history()
