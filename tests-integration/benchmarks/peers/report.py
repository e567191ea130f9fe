"""The results as a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from columns import COLUMNS
from roster import Peer
from session import Results
from summary import medians


@dataclass
class Row:
    """A peer and its results."""

    peer: Peer
    rounds: list[Results] = field(default_factory=list)
    left_out: str | None = None

    @property
    def medians(self) -> dict[str, float]:
        return medians(each.values for each in self.rounds)


def markdown(rows: Sequence[Row], wanted: Sequence[str]) -> str:
    """Return a table of the medians, with the losses below."""
    columns = [column for column in COLUMNS if column.key in wanted]
    heads = [f"{column.heading} ({column.unit})" for column in columns]
    lines = [f"| {' | '.join(['server', *heads])} |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        values = row.medians
        cells = [format_value(values.get(column.key)) for column in columns]
        lines.append(f"| {' | '.join([row.peer.name, *cells])} |")
    for row in rows:
        if row.left_out is not None:
            lines.append(f"\n{row.peer.name} is left out: {row.left_out}")
        lost = {key: sum(each.lost.get(key, 0) for each in row.rounds) for key in wanted}
        for key, number in lost.items():
            if number:
                lines.append(f"\n{row.peer.name} lost {number} messages in column {key}")
        for each in row.rounds[:1]:
            for key, reason in each.missing.items():
                lines.append(f"\n{row.peer.name} has no column {key}: {reason}")
            shares = ", ".join(f"{key} {100 * v:.0f} %" for key, v in each.reader_share.items())
            lines.append(f"\n{row.peer.name}: subscribers' CPU {shares}")
    return "\n".join(lines)


def format_value(value: float | None) -> str:
    """Return three digits."""
    if value is None:
        return "n/a"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
