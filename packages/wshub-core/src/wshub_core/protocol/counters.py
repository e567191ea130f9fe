"""The counters of a hub."""


class Counters:
    """Running totals since the hub was entered; `HubStats` describes them."""

    __slots__ = (
        "bytes",
        "callback_errors",
        "connections",
        "deliveries",
        "drops",
        "evictions",
        "ignored_frames",
        "messages",
        "refusals",
        "saved_bytes",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.refusals = 0
        self.messages = 0
        self.deliveries = 0
        self.bytes = 0
        # Bytes of `bytes` that compression has saved.
        self.saved_bytes = 0
        self.drops = 0
        self.evictions = 0
        self.ignored_frames = 0
        self.callback_errors = 0
