"""What a bridge between hubs can be said to be."""

from enum import StrEnum


class BridgeState(StrEnum):
    """How well a bridge works now."""

    UP = "up"
    """What is published here reaches the other hubs, and what they publish arrives."""
    DEGRADED = "degraded"
    """One direction works, the other does not."""
    DOWN = "down"
    """This hub is on its own. Its clients get what is published here, and nothing else."""
