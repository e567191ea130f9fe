"""Exponential backoff with full jitter, for reconnects and restarts."""

import random
from collections.abc import Callable


class Backoff:
    """The delay before the next attempt, computed from the number of consecutive failures.

    The delay is a random time between zero and a bound that grows with each failure ("full
    jitter"). Clients that were disconnected together therefore reconnect at different times.

    Args:
        initial: The bound after the first failure, in seconds.
        maximum: The highest bound, in seconds.
        multiplier: The factor by which the bound grows with each further failure.
        uniform: Returns a random number between its two arguments.

    Attributes:
        failures: Number of failures since the last `reset`.
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
        """Set the number of failures to zero, after a stable success."""
        self.failures = 0

    @property
    def bound(self) -> float:
        """Longest random part of the delay now, in seconds."""
        try:
            bound = self._initial * self._multiplier ** max(0, self.failures - 1)
        except OverflowError:
            # After many failures the power exceeds the range of a float.
            return self._maximum
        return min(bound, self._maximum)

    def delay(self, retry_after: float | None = None) -> float:
        """Return the delay before the next attempt, in seconds.

        Args:
            retry_after: Shortest delay that the server has asked for, in seconds; the random time
                is added to it.
        """
        return (retry_after or 0.0) + self._uniform(0.0, self.bound)
