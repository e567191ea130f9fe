"""The parts of a hub that its HTTP API uses; documented on `wshub_core.Hub`."""

# ruff: noqa: D102 - the methods are those of Hub

from typing import Protocol

from wshub_core.loop.clock import Clock
from wshub_core.values.config import HubConfig
from wshub_core.values.connection import Connection
from wshub_core.values.history import HistoryPage
from wshub_core.values.messages import Message
from wshub_core.values.presence import Presence, PresenceCount
from wshub_core.values.stats import HubStats


class APIHub(Protocol):
    """A hub, as its HTTP API sees it."""

    config: HubConfig

    @property
    def clock(self) -> Clock: ...

    @property
    def channels(self) -> tuple[str, ...]: ...

    def publish(self, channel: str, message: Message, /) -> None: ...

    def broadcast(self, message: Message, /) -> None: ...

    async def drain(self) -> None: ...

    def subscriber_count(self, channel: str, /) -> int: ...

    async def history(
        self, channel: str, *, since: int = 0, limit: int = 100, reverse: bool = False
    ) -> HistoryPage: ...

    async def clear_history(self, channel: str, /) -> None: ...

    async def presence(self, channel: str, limit: int = 1_000) -> Presence: ...

    async def presence_count(self, channel: str, /) -> PresenceCount: ...

    def connections_of(self, user_id: str, /) -> tuple[Connection, ...]: ...

    def send_to_user(self, user_id: str, message: Message, /) -> int: ...

    async def subscribe_user(self, user_id: str, channel: str, /) -> int: ...

    def unsubscribe_user(self, user_id: str, channel: str, /) -> int: ...

    def disconnect_user(self, user_id: str, code: int, reason: str, /) -> int: ...

    def disconnect(self, connection_id: int, code: int, reason: str, /) -> bool: ...

    def stats(self) -> HubStats: ...
