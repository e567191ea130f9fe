"""A shared history in memory, for tests of programs with several hubs."""

import secrets
import time
from collections.abc import Callable

from wshub_core.bridge.history_store import StoredPage
from wshub_core.protocol.stream import Stream
from wshub_core.values.errors import HistoryUnavailableError
from wshub_core.values.history import HistoryLimits, Position

_PAGE_BYTES = 1_048_576
"""Maximum size of one page. A page can therefore have fewer messages than were asked for."""


class MemoryHistory:
    """The histories that all hubs of a `MemoryExchange` share.

    Args:
        get_time: Returns the time in seconds, by which messages become too old.

    Attributes:
        is_available: Whether the history can be read and changed. Set it to False for an outage.
    """

    def __init__(self, get_time: Callable[[], float] = time.monotonic) -> None:
        self.is_available = True
        self._get_time = get_time
        self._streams: dict[str, Stream] = {}

    def append(self, channel: str, payload: bytes, limits: HistoryLimits) -> Position:
        """Append a message; return its position.

        Raises:
            HistoryUnavailableError: There is an outage.
        """
        stream = self._stream(channel, limits)
        stream.append(payload, self._get_time())
        return Position(stream.epoch, stream.offset)

    def read(self, channel: str, after: int, limit: int, limits: HistoryLimits) -> StoredPage:
        """Return the messages behind an offset; see `wshub_core.HistoryStore.read`.

        Raises:
            HistoryUnavailableError: There is an outage.
        """
        stream = self._stream(channel, limits)
        after = max(after, stream.first - 1)
        payloads = list(stream.read(after, limit, _PAGE_BYTES)) if after < stream.offset else []
        return StoredPage(stream.epoch, stream.first, stream.offset, after + 1, payloads)

    def clear(self, channel: str, limits: HistoryLimits) -> str:
        """Remove all messages of a channel; return its new epoch.

        Raises:
            HistoryUnavailableError: There is an outage.
        """
        self._stream(channel, limits)
        self.lose(channel)
        return self._stream(channel, limits).epoch

    def lose(self, channel: str) -> None:
        """Lose all messages of a channel, as a server that was restarted. A new epoch begins."""
        self._streams.pop(channel, None)

    def _stream(self, channel: str, limits: HistoryLimits) -> Stream:
        if not self.is_available:
            raise HistoryUnavailableError("the test has made the history unavailable")
        stream = self._streams.get(channel)
        if stream is None:
            stream = self._streams[channel] = Stream(secrets.token_hex(4), limits)
        stream.trim(self._get_time())
        return stream
