"""The interface of the two forms of history: of one hub, and shared by several hubs."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias

from wshub_core.history.streams import Streams
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.protocol.stream import Stream
from wshub_core.values.history import HistoryLimits, HistoryPage

Deliver: TypeAlias = Callable[[str, PreparedMessage, bool], None]
"""Delivers a message to the subscribers of a channel. The third argument tells whether the publish
listeners of this hub have had the message already."""


class ChannelHistory(Protocol):
    """Gives the messages of a channel their positions, and keeps the newest ones.

    Attributes:
        streams: The histories in memory.
    """

    @property
    def streams(self) -> Streams: ...  # noqa: D102

    def publish(self, channel: str, payload: bytes, limits: HistoryLimits) -> None:
        """Append a message to the history of its channel, and deliver it, now or later.

        The publish listeners have had the message already.

        Args:
            channel: The channel.
            payload: The message without a position.
            limits: The size of the history.
        """

    def open(self, channel: str, limits: HistoryLimits) -> Stream | Coroutine[Any, Any, Stream]:
        """Return the stream of a channel with subscribers, which is up to date.

        Raises:
            HistoryUnavailableError: The stream cannot be brought up to date.
        """

    def first_kept(self, channel: str, stream: Stream) -> int:
        """Return the offset of the oldest message that `load` can add to an open stream."""

    def load(self, channel: str, after: int) -> Coroutine[Any, Any, None] | None:
        """Add the older messages behind an offset to an open stream, as far as they are kept.

        Returns:
            None if the stream has them. Otherwise a coroutine; open the stream again behind it.

        Raises:
            HistoryUnavailableError: The history cannot be read now.
        """

    def refresh(self, channel: str) -> Coroutine[Any, Any, None] | None:
        """Compare an open stream with the store, because a client knows a later position.

        Returns:
            None if there is no store. Otherwise a coroutine; open the stream again behind it.

        Raises:
            HistoryUnavailableError: The history cannot be read now.
        """

    async def read(
        self, channel: str, limits: HistoryLimits, since: int, limit: int, reverse: bool
    ) -> HistoryPage:
        """Return messages of the history; see `Hub.history`."""

    async def clear(self, channel: str, limits: HistoryLimits) -> str | None:
        """Remove all messages of a channel, and begin a new epoch.

        Returns:
            The new epoch; None if there was nothing to clear.
        """

    def forget(self, channel: str, *, is_bridged: bool) -> None:
        """Drop what is only needed for the subscribers of a channel, which has none any more.

        Args:
            channel: The channel.
            is_bridged: Whether other hubs may publish messages that do not reach this hub any more.
        """
