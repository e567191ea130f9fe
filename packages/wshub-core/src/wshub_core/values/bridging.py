"""The state of a bridge between hubs."""

from enum import StrEnum


class BridgeState(StrEnum):
    """The state of a bridge at this moment."""

    UP = "up"
    """Both directions work. Messages reach the other hubs, and their messages arrive."""
    DEGRADED = "degraded"
    """Only one direction works."""
    DOWN = "down"
    """No direction works. Clients of this hub receive only the messages published on it."""
