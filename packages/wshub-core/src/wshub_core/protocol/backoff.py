"""How long to wait before the next dial."""

import random
from collections.abc import Callable


class Backoff:
    """Counts failures in a row and says how long to wait: longer each time, and never in step.

    The wait is a random time between nothing and a bound that grows with each failure ("full
    jitter"), so that clients that were lost together do not come back together.

    Args:
        initial: The bound after the first failure, in seconds.
        maximum: The highest bound.
        multiplier: By what the bound grows.
        uniform: Returns a random number between two others.

    Attributes:
        failures: How many failures there were since the last success that held.
    """

    def __init__(
        self,
        initial: float,
        maximum: float,
        multiplier: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.failures = 0
        self._initial = initial
        self._maximum = maximum
        self._multiplier = multiplier
        self._uniform = uniform

    def fail(self) -> None:
        """Count a failure."""
        self.failures += 1

    def reset(self) -> None:
        """Forget all failures."""
        self.failures = 0

    @property
    def bound(self) -> float:
        """The longest wait now, in seconds."""
        try:
            bound = self._initial * self._multiplier ** max(0, self.failures - 1)
        except OverflowError:
            return self._maximum
        return min(bound, self._maximum)

    def delay(self, retry_after: float | None = None) -> float:
        """Return how long to wait, in seconds.

        Args:
            retry_after: When the server wants to be asked again; the random time comes on top.
        """
        return (retry_after or 0.0) + self._uniform(0.0, self.bound)
