"""The metrics of a hub: their names, meanings and values, for every system of monitoring.

No client can choose the values of a label, so their number is bounded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from wshub_core.bridge.state import BridgeState
from wshub_core.values.measurements import BridgeStats, CallbackStats, Measurements


class MeasuredHub(Protocol):
    """The part of a hub that the metrics need."""

    def measure(self) -> Measurements:
        """Return the numbers of this moment."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A gauge or a counter, with one value or with one for each value of its label.

    Attributes:
        kind: ``gauge`` for a number of this moment, ``counter`` for a running total.
        name: The name, without the prefix and the unit.
        meaning: The meaning, as one sentence.
        read: Returns the value, or the values by the value of the label; None if there is none.
        unit: ``bytes``, ``seconds``, or empty for a number of things.
        label: The name of the label; empty without a label.
    """

    kind: Literal["counter", "gauge"]
    name: str
    meaning: str
    read: Callable[[Measurements], float | Mapping[str, float] | None]
    unit: str = ""
    label: str = ""

    @property
    def full_name(self) -> str:
        """The name with the prefix and the unit."""
        return "_".join(filter(None, ("wshub", self.name, self.unit)))

    def values(self, measured: Measurements) -> Mapping[str, float]:
        """Return the values by the value of the label, which is empty without a label."""
        result = self.read(measured)
        if result is None:
            return {}
        return result if isinstance(result, Mapping) else {"": result}


def _read_callbacks(
    read: Callable[[CallbackStats], float],
) -> Callable[[Measurements], dict[str, float]]:
    """Return a function that reads a value of each callback."""
    return lambda measured: {
        name.replace(" ", "_"): read(stats) for name, stats in measured.callbacks.items()
    }


def _read_bridge(
    read: Callable[[BridgeStats], float],
) -> Callable[[Measurements], float | None]:
    """Return a function that reads a value of the bridge, if it reports any."""
    return lambda measured: None if measured.bridge is None else read(measured.bridge)


def _read_states(measured: Measurements) -> dict[str, float] | None:
    if measured.bridge_state is None:
        return None
    return {state: float(state == measured.bridge_state) for state in BridgeState}


def _read_refusals(measured: Measurements) -> dict[str, float]:
    return {str(status or "none"): count for status, count in measured.refusals.items()}


METRICS = (
    Metric("gauge", "connections", "Open connections.", lambda m: m.stats.clients),
    Metric("gauge", "channels", "Channels with subscribers.", lambda m: m.stats.channels),
    Metric(
        "gauge",
        "subscriptions",
        "Subscriptions: a connection counts once for each of its channels.",
        lambda m: m.stats.subscribers,
    ),
    Metric(
        "gauge",
        "members",
        "Members of channels with presence on this hub.",
        lambda m: m.members,
    ),
    Metric("counter", "connects", "Accepted connections.", lambda m: m.stats.connections),
    Metric("counter", "disconnects", "Ended connections.", lambda m: m.disconnects, label="cause"),
    Metric(
        "counter",
        "evictions",
        "Connections that were closed because the client read too slowly or not at all.",
        lambda m: m.evictions,
        label="cause",
    ),
    Metric(
        "counter",
        "refusals",
        "Refused handshakes. The status none stands for peers that do not speak HTTP.",
        _read_refusals,
        label="status",
    ),
    Metric(
        "counter",
        "messages",
        "Published and broadcast messages, with those of other hubs.",
        lambda m: m.stats.messages,
    ),
    Metric(
        "counter",
        "received_messages",
        "Messages from clients, with their requests.",
        lambda m: m.received_messages,
    ),
    Metric(
        "counter",
        "received",
        "Size of the messages from clients.",
        lambda m: m.received_bytes,
        unit="bytes",
    ),
    Metric(
        "counter",
        "ignored_messages",
        "Messages from clients that were ignored because they are not valid.",
        lambda m: m.stats.ignored_frames,
    ),
    Metric(
        "counter",
        "deliveries",
        "Messages passed to the network, counted once for each connection.",
        lambda m: m.stats.deliveries,
    ),
    Metric(
        "counter",
        "delivered",
        "Size of the deliveries as WebSocket frames, after compression.",
        lambda m: m.stats.delivered_bytes,
        unit="bytes",
    ),
    Metric(
        "counter",
        "dropped_messages",
        "Messages that were dropped because an outbox was full.",
        lambda m: m.stats.dropped_messages,
    ),
    Metric(
        "gauge", "outbox", "Bytes that wait for clients.", lambda m: m.outbox_bytes, unit="bytes"
    ),
    Metric(
        "counter",
        "callback_calls",
        "Calls of callbacks that have ended.",
        _read_callbacks(lambda each: each.calls),
        label="callback",
    ),
    Metric(
        "counter",
        "callback",
        "Time of these calls, with the waits of asynchronous callbacks.",
        _read_callbacks(lambda each: each.seconds),
        unit="seconds",
        label="callback",
    ),
    Metric(
        "counter",
        "callback_errors",
        "Exceptions that callbacks have raised.",
        _read_callbacks(lambda each: each.errors),
        label="callback",
    ),
    Metric("gauge", "histories", "Channels whose history is in memory.", lambda m: m.histories),
    Metric(
        "gauge",
        "history",
        "Size of the histories in memory.",
        lambda m: m.history_bytes,
        unit="bytes",
    ),
    Metric(
        "counter",
        "recoveries",
        "Requests of subscribers for a history. Only recovered means that no message is missing.",
        lambda m: m.recoveries,
        label="outcome",
    ),
    Metric("gauge", "bridge_state", "1 for the state of the bridge.", _read_states, label="state"),
    Metric(
        "counter",
        "bridge_published",
        "Messages that the broker has confirmed.",
        _read_bridge(lambda each: each.published),
    ),
    Metric(
        "counter",
        "bridge_received",
        "Messages of other hubs.",
        _read_bridge(lambda each: each.received),
    ),
    Metric(
        "counter",
        "bridge_lost",
        "Messages of this hub that the broker has not confirmed and will not get again.",
        _read_bridge(lambda each: each.lost),
    ),
    Metric(
        "counter",
        "bridge_duplicates",
        "Messages that came a second time and were dropped.",
        _read_bridge(lambda each: each.duplicates),
    ),
    Metric(
        "counter",
        "bridge_junk",
        "Arrivals that were dropped because they were no valid message of a hub.",
        _read_bridge(lambda each: each.junk),
    ),
    Metric(
        "counter",
        "bridge_reconnects",
        "Connections to the broker that were lost.",
        _read_bridge(lambda each: each.reconnects),
    ),
    Metric(
        "gauge",
        "bridge_queued_messages",
        "Messages that the broker has not confirmed yet.",
        _read_bridge(lambda each: each.queued_messages),
    ),
    Metric(
        "gauge",
        "bridge_queued",
        "Size of these messages.",
        _read_bridge(lambda each: each.queued_bytes),
        unit="bytes",
    ),
    Metric(
        "gauge",
        "bridge_lag",
        "Age of the oldest of these messages.",
        _read_bridge(lambda each: each.lag_seconds),
        unit="seconds",
    ),
)
"""The gauges and the counters."""

FAN_OUTS = "Time from a publish until each subscriber has the message in its socket or its outbox."
"""The meaning of the histogram ``wshub_fan_out_seconds``, of `Measurements.fan_outs`."""
