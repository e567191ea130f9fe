"""What a bridge has done, counted as it happens."""


class Counters:
    """Running totals; `BridgeStats` says what each means."""

    __slots__ = ("duplicates", "junk", "lost", "published", "received", "reconnects")

    def __init__(self) -> None:
        self.published = 0
        self.lost = 0
        self.received = 0
        self.duplicates = 0
        self.junk = 0
        self.reconnects = 0
