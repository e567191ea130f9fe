"""Medians and percentiles of what the rounds have measured."""

import statistics
from collections.abc import Iterable, Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that is not below `percent` of the values."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def medians(rounds: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the median of each key over the rounds that have it."""
    values: dict[str, list[float]] = {}
    for each in rounds:
        for key, value in each.items():
            values.setdefault(key, []).append(value)
    return {key: statistics.median(found) for key, found in values.items()}
