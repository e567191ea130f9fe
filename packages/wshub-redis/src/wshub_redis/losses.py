"""The log of lost messages."""

from wshub_redis.connection import logger

_QUIET_SECONDS = 10.0
"""Minimum time in seconds between two log records about lost messages, while others arrive."""


class LossLog:
    """Logs the first loss in a row at once, and the number of losses at the end."""

    def __init__(self) -> None:
        self._unreported = 0
        self._quiet_until = 0.0

    def note_loss(self, why: str, now: float) -> None:
        """Record a lost message.

        Args:
            why: The reason.
            now: The time in seconds.
        """
        self._unreported += 1
        if self._unreported == 1:
            logger.warning("messages for other hubs are lost: %s", why)
            self._quiet_until = now + _QUIET_SECONDS

    def note_success(self, now: float) -> None:
        """Record a message that was not lost; ends the row if it has lasted long enough."""
        if self._unreported and now > self._quiet_until:
            self.report()

    def report(self) -> None:
        """End the row of losses, if there is one."""
        if self._unreported:
            logger.warning("number of lost messages for other hubs: %d", self._unreported)
            self._unreported = 0
