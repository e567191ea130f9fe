"""The columns of the table: what each one measures, and how much of it a run does."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """Messages that a server publishes.

    Attributes:
        messages: Number of times the server publishes.
        burst: Messages each time, without a pause between them.
        pause: Seconds after each time.
        size: Length of the data of a message.
        compressed: Whether the subscribers ask for compression.
        many_channels: Whether each subscriber has a channel of its own.
    """

    messages: int
    pause: float
    burst: int = 1
    size: int = 128
    compressed: bool = False
    many_channels: bool = False


@dataclass(frozen=True)
class Column:
    """A column: its key in the results, its heading, and its unit."""

    key: str
    heading: str
    unit: str


LOADS = {
    "rapid": Load(messages=100, pause=0.004),
    "steady": Load(messages=50, pause=0.025),
    "bursts": Load(messages=10, pause=0.1, burst=10),
    "large": Load(messages=20, pause=0.05, size=16_384),
    "channels": Load(messages=10, pause=0.1, many_channels=True),
    "deflate": Load(messages=40, pause=0.025, size=1_024, compressed=True),
}

COLUMNS = (
    Column("rapid", "every 4 ms", "µs"),
    Column("steady", "every 25 ms", "µs"),
    Column("bursts", "bursts of 10", "µs"),
    Column("large", "16 KB", "µs"),
    Column("channels", "many channels", "µs"),
    Column("turns", "round trip", "µs"),
    Column("deflate", "compressed, 1 KB", "µs"),
    Column("accept", "accept", "µs"),
    Column("storm", "accept, all at once", "µs"),
    Column("memory", "idle connection", "KB"),
    Column("p50", "latency p50", "ms"),
    Column("p99", "latency p99", "ms"),
    Column("held", "longest turn", "ms"),
)
# Columns that come from the measurement of another column.
MEASURED_WITH = {"memory": "accept", "p50": "steady", "p99": "steady", "held": "storm"}


@dataclass(frozen=True)
class Extent:
    """How much a run does.

    Attributes:
        subscribers: Connections of all columns but `channels` and `turns`.
        channels: Channels of the column `channels`, with a subscriber each.
        turns: Round trips of the column `turns`.
        scale: Factor for the number of messages.
        limit: Seconds after which a server stops to publish in one column.
        readers: Processes that hold the connections.
    """

    subscribers: int = 1_000
    channels: int = 2_000
    turns: int = 2_000
    scale: float = 1
    limit: float = 5
    readers: int = 2


FULL = Extent()
QUICK = Extent(subscribers=200, channels=200, turns=100, scale=0.4, limit=2)


def measurements(wanted: Sequence[str]) -> list[str]:
    """Return the measurements that the wanted columns need, in the order of the columns."""
    needed = {MEASURED_WITH.get(key, key) for key in wanted}
    return [column.key for column in COLUMNS if column.key in needed]
