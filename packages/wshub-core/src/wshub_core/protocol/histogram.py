"""The histogram: the distribution of values, as counts of ranges."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """The number of values in each of a few fixed ranges, and their sum.

    Args:
        bounds: The upper bounds of the ranges, in ascending order; each belongs to its range. A
            last range has no bound.

    Attributes:
        bounds: The upper bounds of the ranges.
        counts: The number of values in each range, one more than there are bounds.
        sum: The sum of all values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
