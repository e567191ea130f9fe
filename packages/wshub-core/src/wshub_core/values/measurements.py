"""The measurements of a hub: its statistics in detail, for monitoring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wshub_core.values.stats import HubStats


@dataclass(frozen=True, slots=True)
class CallbackStats:
    """Totals of the calls of one callback.

    Attributes:
        calls: Number of calls that have ended, since the first `Hub.measure`.
        errors: Number of exceptions that the callback has raised.
        seconds: Time in seconds that the calls have taken, with all waits of an async callback.
    """

    calls: int
    errors: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """The distribution of a value.

    Attributes:
        bounds: Upper bounds of the ranges, in ascending order. The last range has no bound.
        counts: Number of values in each range, one more than there are bounds.
        sum: Sum of all values.
    """

    bounds: Sequence[float] = ()
    counts: Sequence[int] = (0,)
    sum: float = 0.0


@dataclass(frozen=True, slots=True)
class BridgeStats:
    """Totals of a bridge since it was created, and its queue.

    Attributes:
        published: Number of messages that the broker has confirmed.
        lost: Number of messages of this hub that the broker has not confirmed and that will not be
            sent again. Some of them may have arrived: a connection can be lost after the broker
            has the message and before its confirmation arrives.
        received: Number of messages of other hubs that were delivered to this hub's clients.
        duplicates: Number of messages that arrived a second time, and were dropped.
        junk: Number of arrivals that were dropped because they were no message of a hub, too
            large for this hub's clients, nested too deeply, or on a channel with an invalid name.
        reconnects: Number of connections that were lost.
        queued_messages: Number of messages that the broker has not confirmed yet, now. Probes of
            the bridge can be among them.
        queued_bytes: Size of these messages in bytes.
        lag_seconds: Age in seconds of the oldest of these messages; 0 if there is none.
    """

    published: int = 0
    lost: int = 0
    received: int = 0
    duplicates: int = 0
    junk: int = 0
    reconnects: int = 0
    queued_messages: int = 0
    queued_bytes: int = 0
    lag_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Measurements:
    """The numbers of a hub for monitoring, from `Hub.measure`.

    The keys of the mappings come from short lists: no channel, user or address is among them.

    Attributes:
        stats: The statistics.
        received_messages: Total of text and binary messages from clients.
        received_bytes: Total size of their payloads in bytes.
        outbox_bytes: Bytes that wait for all clients now, in outboxes and in transports.
        refusals: Total of refused handshakes, by HTTP status; 0 stands for peers that do not speak
            HTTP and get no response.
        disconnects: Total of ended connections, by `DisconnectCause`.
        evictions: Total of evicted connections, by `DisconnectCause`.
        callbacks: Totals of each callback, by its name.
        fan_outs: Distribution of the times in seconds from a publish to the end of its fan-out,
            since the first call of `Hub.measure`:
            each subscriber has the message in its socket or in its outbox. Messages that are
            published in quick succession to the same subscribers share a fan-out.
        histories: Number of channels whose history is in memory now.
        history_bytes: Size of these histories in bytes, about.
        recoveries: Total of requests for a history by subscribers: ``recovered`` for those that
            nothing was missing for, else the reason, such as ``trimmed``.
        members: Number of connections that are members of channels with presence now; a connection
            counts once for each of its channels.
        bridge_state: The value of the `BridgeState`; None without a bridge.
        bridge: The totals of the bridge; None without a bridge, or if it reports none.
    """

    stats: HubStats = field(default_factory=lambda: HubStats(*[0] * 12))
    received_messages: int = 0
    received_bytes: int = 0
    outbox_bytes: int = 0
    refusals: Mapping[int, int] = field(default_factory=dict)
    disconnects: Mapping[str, int] = field(default_factory=dict)
    evictions: Mapping[str, int] = field(default_factory=dict)
    callbacks: Mapping[str, CallbackStats] = field(default_factory=dict)
    fan_outs: Distribution = Distribution()
    histories: int = 0
    history_bytes: int = 0
    recoveries: Mapping[str, int] = field(default_factory=dict)
    members: int = 0
    bridge_state: str | None = None
    bridge: BridgeStats | None = None
