"""The states of a bridge between hubs."""

from enum import StrEnum


class BridgeState(StrEnum):
    """How well a bridge works now."""

    UP = "up"
    """Messages published here reach the other hubs, and their messages arrive here."""
    DEGRADED = "degraded"
    """One direction works, the other does not."""
    DOWN = "down"
    """This hub works alone. Its clients receive only messages that are published here."""
