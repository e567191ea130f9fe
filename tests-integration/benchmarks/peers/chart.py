"""The report of a run as a chart: a panel of bars for each of the most telling columns."""

import statistics
from collections.abc import Iterator
from html import escape

from columns import Column
from report import format_value
from summary import Report

KEYS = ("steady", "bursts", "large", "channels", "turns", "accept", "memory", "p99", "deflate")
PANELS_PER_ROW = 3
WIDTH, MARGIN, TITLE, BAR, LABEL, NUMBER = 960, 16, 34, 18, 116, 52
CUT = 4  # times the median, where a bar is cut
STYLE = (
    ".h{font:600 14px sans-serif;fill:#1b2a41}"
    ".t{font:12px sans-serif;fill:#44546a}"
    ".wshub{fill:#3b6fb6}.floor{fill:#c3cad4}.peer{fill:#8fa3bd}"
)


def chart(report: Report) -> str:
    """Return an SVG picture. Bars much longer than the others are cut, and end with an arrow."""
    columns = [column for column in report.shown_columns() if column.key in KEYS]
    panel_width = (WIDTH - MARGIN) // PANELS_PER_ROW
    panel_height = TITLE + BAR * len(report.peers) + MARGIN
    rows = -(-len(columns) // PANELS_PER_ROW)
    height = MARGIN + rows * panel_height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Cost of wshub and of other WebSocket servers; less is better</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, column in enumerate(columns):
        x = MARGIN + number % PANELS_PER_ROW * panel_width
        y = MARGIN + number // PANELS_PER_ROW * panel_height
        parts += panel(report, column, x, y, panel_width - MARGIN)
    return "\n".join([*parts, "</svg>", ""])


def panel(report: Report, column: Column, x: int, y: int, width: int) -> Iterator[str]:
    """Yield the elements of one column."""
    yield f'<text x="{x}" y="{y + 16}" class="h">{escape(column.heading)}, {column.unit}</text>'
    values = [peer.values[column.key] for peer in report.peers if column.key in peer.values]
    if not values:
        return
    limit = min(max(values), CUT * statistics.median(values)) or 1
    space = width - LABEL - NUMBER
    for number, peer in enumerate(report.peers):
        top = y + TITLE + number * BAR
        baseline = top + BAR - 6
        yield f'<text x="{x}" y="{baseline}" class="t">{escape(peer.name)}</text>'
        value = peer.values.get(column.key)
        length = 0.0
        if value is not None:
            length = space * min(value, limit) / limit
            kind = peer.name.partition("-")[0]
            style = kind if kind in ("wshub", "floor") else "peer"
            yield (
                f'<rect x="{x + LABEL}" y="{top}" width="{length:.1f}" height="{BAR - 5}" '
                f'class="{style}"/>'
            )
        text = format_value(value) + (" →" if value is not None and value > limit else "")
        yield f'<text x="{x + LABEL + length + 4:.1f}" y="{baseline}" class="t">{text}</text>'
