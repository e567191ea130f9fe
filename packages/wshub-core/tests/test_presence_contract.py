"""The contract of presence stores, for the store in memory."""

from contextlib import AbstractAsyncContextManager

from wshub_core import Bridge, Hub
from wshub_core.testing import MemoryBridge, MemoryExchange, PresenceContract


class TestMemoryBridge(PresenceContract):
    def setup_method(self) -> None:
        self.exchange = MemoryExchange()

    def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
        return MemoryBridge(hub, self.exchange)
