"""A bridge in memory, for tests of programs with several hubs."""

import asyncio
import time
from asyncio import Future
from types import TracebackType
from typing import Self

from wshub_core.bridge.history_store import StoredPage
from wshub_core.bridge.presence_store import PresenceStore
from wshub_core.bridge.state import BridgeState
from wshub_core.hub import Hub
from wshub_core.presence.local import LocalPresence
from wshub_core.testing.memory_history import MemoryHistory
from wshub_core.values.channels import BROADCAST
from wshub_core.values.errors import HistoryUnavailableError
from wshub_core.values.history import HistoryLimits


class MemoryExchange:
    """The broker of memory bridges; see `MemoryBridge`.

    Args:
        history: The histories that the hubs share. With None, each hub has its own.

    Attributes:
        bridges: The attached bridges.
        history: The histories that the hubs share, or None.
        presence: The members of the channels of all hubs.
    """

    def __init__(self, history: MemoryHistory | None = None) -> None:
        self.bridges: list[MemoryBridge] = []
        self.history = history
        self.presence: PresenceStore = LocalPresence(time.monotonic)


class MemoryBridge:
    """A bridge between hubs of one process, for tests of programs with several hubs.

    ::

        exchange = MemoryExchange()
        async with Hub() as here, Hub() as there:
            async with MemoryBridge(here, exchange), MemoryBridge(there, exchange):
                ...

    With a `MemoryHistory`, the bridge is the history store of its hub, too. Tests of lost, doubled
    and late messages override `take_stored`.

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
        self._loop = asyncio.get_running_loop()
        history = None if self._exchange.history is None else self
        self._port.attach(self, history=history, presence=self._exchange.presence)
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

    # The history store; see `wshub_core.HistoryStore`.

    def append(self, channel: str, payload: bytes, limits: HistoryLimits) -> None:
        """Append a message to the shared history, which passes it to all bridges."""
        try:
            epoch, offset = self._get_history().append(channel, payload, limits)
        except HistoryUnavailableError:
            self._port.deliver_unstored(channel, payload)
            return
        for bridge in self._exchange.bridges:
            bridge.take_stored(channel, epoch, offset, payload, is_own=bridge is self)

    def take_stored(
        self, channel: str, epoch: str, offset: int, payload: bytes, *, is_own: bool
    ) -> None:
        """Deliver a message of the shared history, if this hub is subscribed to its channel."""
        if self._needs_all or channel in self._channels:
            # Later, as a real broker does: `append` does not deliver.
            self._loop.call_soon(self.deliver_stored, channel, epoch, offset, payload, is_own)

    def deliver_stored(
        self, channel: str, epoch: str, offset: int, payload: bytes, is_own: bool
    ) -> None:
        """Deliver a message of the shared history now, unless the bridge was detached."""
        if self in self._exchange.bridges:
            self._port.deliver_stored(channel, epoch, offset, payload, is_own=is_own)

    def resync_history(self) -> None:
        """Let the hub compare its positions with the shared history, as after a reconnect."""
        self._port.resync_history()

    async def read(
        self, channel: str, *, after: int, limit: int, limits: HistoryLimits
    ) -> StoredPage:
        """Return messages of the shared history; other tasks run before and after the read."""
        await asyncio.sleep(0)
        page = self._get_history().read(channel, after, limit, limits)
        await asyncio.sleep(0)
        return page

    async def clear(self, channel: str, limits: HistoryLimits) -> str:
        """Clear the shared history of a channel; return its new epoch."""
        await asyncio.sleep(0)
        return self._get_history().clear(channel, limits)

    def _get_history(self) -> MemoryHistory:
        if self._exchange.history is None:
            raise HistoryUnavailableError("the exchange has no history")
        return self._exchange.history
