"""The interface of a history that several hubs share, which a bridge provides."""

from dataclasses import dataclass
from typing import Protocol

from wshub_core.values.history import HistoryLimits


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A part of the shared history of a channel, oldest message first.

    Attributes:
        epoch: The name of the stream, 1 to 64 ASCII letters and digits. A read begins a stream if
            there is none.
        first: Offset of the oldest message that is kept; ``offset + 1`` if none is kept.
        offset: Offset of the newest message; 0 if nothing was ever published.
        start: Offset of the first message of `payloads`.
        payloads: The messages, each one JSON object. Their offsets have no gaps.
    """

    epoch: str
    first: int
    offset: int
    start: int
    payloads: list[bytes]


class HistoryStore(Protocol):
    """Keeps the history of channels for all hubs, and gives each message its position.

    A bridge passes its store to `BridgePort.attach`. The hub then publishes the messages of
    channels with history with `append` instead of `Bridge.forward`.
    """

    def append(self, channel: str, payload: bytes, limits: HistoryLimits) -> None:
        """Append a message, without blocking and without raising.

        The message comes back through `BridgePort.deliver_stored` on every hub that is subscribed
        to the channel, this hub included. If the message is lost, this hub gets it through
        `BridgePort.deliver_unstored`.

        Args:
            channel: The channel.
            payload: The message as clients receive it, without its position.
            limits: The size of the history.
        """

    async def read(
        self, channel: str, *, after: int, limit: int, limits: HistoryLimits
    ) -> StoredPage:
        """Return the oldest messages behind an offset.

        Args:
            channel: The channel.
            after: The offset; the page begins at ``first`` if that is later.
            limit: Maximum number of messages; 0 for the position alone.
            limits: The size of the history: older messages are left out.

        Raises:
            HistoryUnavailableError: The history cannot be read now. In an outage that is older
                than a second, the error comes at once. A store may wait for the end of a younger
                one, which keeps jumps of the offsets away from clients.
        """

    async def clear(self, channel: str, limits: HistoryLimits) -> str:
        """Remove all messages of a channel, and begin a new epoch.

        Args:
            channel: The channel.
            limits: The size of the history.

        Returns:
            The new epoch, whose offsets begin at 1.

        Raises:
            HistoryUnavailableError: The history cannot be changed now.
        """
