"""The counters of a bridge, and the snapshot of them that applications read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BridgeStats:
    """Totals of a bridge since it was created.

    Attributes:
        published: Number of messages that Redis has confirmed.
        lost: Number of messages of this hub that Redis has not confirmed and that will not be
            sent again. Some of them may have arrived: a connection can be lost after Redis has
            the message and before its confirmation arrives.
        received: Number of messages of other hubs that were delivered to this hub's clients.
        duplicates: Number of messages that arrived a second time, and were dropped.
        junk: Number of arrivals that were dropped because they were no message of a hub, too
            large for this hub's clients, nested too deeply, or on a channel with an invalid name.
        reconnects: Number of connections that were lost.
    """

    published: int
    lost: int
    received: int
    duplicates: int
    junk: int
    reconnects: int


class Counters:
    """The running totals behind `BridgeStats`, with the same names."""

    __slots__ = ("duplicates", "junk", "lost", "published", "received", "reconnects")

    def __init__(self) -> None:
        self.published = 0
        self.lost = 0
        self.received = 0
        self.duplicates = 0
        self.junk = 0
        self.reconnects = 0

    def snapshot(self) -> BridgeStats:
        """Return the totals of this moment."""
        return BridgeStats(**{name: getattr(self, name) for name in self.__slots__})
