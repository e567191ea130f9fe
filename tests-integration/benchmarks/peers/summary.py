"""The results of all rounds, put together."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from columns import COLUMNS, Column
from roster import Peer


@dataclass
class Results:
    """The results of one peer in one round."""

    values: dict[str, float] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    reader_share: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PeerSummary:
    """The results of one peer.

    Attributes:
        name: Name of the peer.
        description: How its program publishes.
        versions: Versions of the language and of the libraries.
        values: The median of each column.
        rounds: The value of each round, for each column.
        lost: Messages that did not arrive, in all rounds, for each column.
        reader_share: The largest share of their cores that the subscribers used, for each column.
        missing: Why a column has no value.
        left_out: Why the peer was not measured, or not to the end.
    """

    name: str
    description: str
    versions: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    rounds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    reader_share: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    left_out: str | None = None


@dataclass(frozen=True)
class Report:
    """A whole run."""

    command: str
    date: str
    machine: Mapping[str, str]
    extent: Mapping[str, float]
    columns: Sequence[str]
    peers: Sequence[PeerSummary]

    def as_dict(self) -> dict[str, object]:
        """Return what the JSON file contains."""
        return asdict(self)

    def shown_columns(self) -> list[Column]:
        return [column for column in COLUMNS if column.key in self.columns]


def summarize(peer: Peer, rounds: Sequence[Results], left_out: str | None) -> PeerSummary:
    """Put the rounds of one peer together."""
    values = gather(each.values for each in rounds)
    lost = gather(each.lost for each in rounds)
    shares = gather(each.reader_share for each in rounds)
    return PeerSummary(
        name=peer.name,
        description=peer.description,
        versions=rounds[-1].versions if rounds else {},
        values={key: statistics.median(found) for key, found in values.items()},
        rounds=values,
        lost={key: int(sum(numbers)) for key, numbers in lost.items()},
        reader_share={key: max(found) for key, found in shares.items()},
        missing=rounds[-1].missing if rounds else {},
        left_out=left_out,
    )


def gather(rounds: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the values of each key, in the order of the rounds."""
    values: dict[str, list[float]] = {}
    for each in rounds:
        for key, value in each.items():
            values.setdefault(key, []).append(value)
    return values


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
