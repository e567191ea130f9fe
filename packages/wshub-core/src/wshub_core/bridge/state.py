"""The states of a bridge between hubs."""

from enum import StrEnum


class BridgeState(StrEnum):
    """The state of a bridge."""

    UP = "up"
    """Messages published here reach the other hubs, and their messages arrive here."""
    DEGRADED = "degraded"
    """Only one direction works."""
    DOWN = "down"
    """Neither direction works. Clients here receive only messages that are published here."""
