"""The counters of a hub."""

from collections import Counter, defaultdict

from wshub_core.protocol.histogram import Histogram
from wshub_core.values.closing import DisconnectCause

_FAN_OUT_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Bounds in seconds. A fan-out to one client takes about 0.1 ms, one to 10,000 clients 0.1 s."""

_STATUSES = (0, 400, 401, 403, 405, 414, 426, 429, 431, 503)
"""The statuses of refused handshakes; 0 for a peer that gets no response."""

_EVICTIONS = (DisconnectCause.SLOW_CONSUMER, DisconnectCause.WRITE_TIMEOUT)
"""The causes with which a hub closes the connections of slow clients."""

_RECOVERIES = ("recovered", "foreign_epoch", "future_offset", "trimmed", "unavailable")
"""The outcomes of a request for a history (wire protocol, "History")."""


class CallbackCounters:
    """Running totals of the calls of one callback; `CallbackStats` describes them."""

    __slots__ = ("calls", "errors", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.seconds = 0.0


class Counters:
    """Running totals since the hub was entered; `HubStats` and `Measurements` describe them.

    Attributes:
        is_timing: Whether times are measured, which makes publishing and callbacks slower by some
            0.2 microseconds. It is false until the totals are read for the first time.
    """

    __slots__ = (
        "bytes",
        "callbacks",
        "connections",
        "deliveries",
        "disconnects",
        "drops",
        "evictions",
        "fan_outs",
        "ignored_frames",
        "is_timing",
        "messages",
        "received_bytes",
        "received_messages",
        "recoveries",
        "refusals",
        "saved_bytes",
    )

    def __init__(self) -> None:
        self.is_timing = False
        self.connections = 0
        # Known keys begin with 0: the first event is then an increase, which rates show.
        self.refusals: Counter[int] = Counter(dict.fromkeys(_STATUSES, 0))
        self.disconnects: Counter[DisconnectCause] = Counter(dict.fromkeys(DisconnectCause, 0))
        self.messages = 0
        self.received_messages = 0
        self.received_bytes = 0
        self.deliveries = 0
        self.bytes = 0
        # Bytes of `bytes` that compression has saved.
        self.saved_bytes = 0
        self.drops = 0
        self.evictions: Counter[DisconnectCause] = Counter(dict.fromkeys(_EVICTIONS, 0))
        self.ignored_frames = 0
        self.fan_outs = Histogram(_FAN_OUT_BOUNDS)
        self.recoveries: Counter[str] = Counter(dict.fromkeys(_RECOVERIES, 0))
        self.callbacks: defaultdict[str, CallbackCounters] = defaultdict(CallbackCounters)

    @property
    def callback_errors(self) -> int:
        """Total of exceptions raised by callbacks."""
        return sum(each.errors for each in tuple(self.callbacks.values()))
