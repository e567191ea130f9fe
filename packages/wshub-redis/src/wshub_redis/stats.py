"""The counters of a bridge, and the statistics that applications read."""

from collections.abc import Iterable
from time import monotonic
from typing import Any

from wshub_core import BridgeStats
from wshub_redis.publish_queue import PublishQueue


class Counters:
    """The running totals of `BridgeStats`, with the same names."""

    __slots__ = ("duplicates", "junk", "lost", "published", "received", "reconnects")

    def __init__(self) -> None:
        self.published = 0
        self.lost = 0
        self.received = 0
        self.duplicates = 0
        self.junk = 0
        self.reconnects = 0

    def snapshot(self, queues: Iterable[PublishQueue[Any]]) -> BridgeStats:
        """Return the totals and the queues of this moment.

        Args:
            queues: The queues of the bridge, with the times of an event loop.
        """
        queues = tuple(queues)
        since = [first.since for queue in queues if (first := queue.first) is not None]
        # Event loops have the clock of `monotonic`. uvloop's is up to a millisecond behind.
        lag = max(monotonic() - min(since), 0.0) if since else 0.0
        return BridgeStats(
            **{name: getattr(self, name) for name in self.__slots__},
            queued_messages=sum(map(len, queues)),
            queued_bytes=sum(queue.size for queue in queues),
            lag_seconds=lag,
        )
