"""Reports of dropped messages."""

import asyncio
from collections.abc import Callable

from wshub_client.errors import ClientError, DroppedError

_REPORT_SECONDS = 0.1


class DropReports:
    """Reports dropped messages, with one report for all drops within 0.1 seconds.

    Args:
        report: Passes an error to the application.
    """

    __slots__ = (
        "_report",
        "_reported_undelivered",
        "_timer",
        "_undelivered",
        "_unsent",
    )

    def __init__(self, report: Callable[[ClientError], None]) -> None:
        self._report = report
        self._unsent = 0
        self._undelivered = 0
        self._reported_undelivered = 0
        self._timer: asyncio.TimerHandle | None = None

    def add_unsent(self, count: int) -> None:
        """Note that messages to the hub were dropped.

        Args:
            count: Their number, which may be 0.
        """
        if count:
            self._unsent += count
            self._schedule()

    def note_undelivered(self, total: int) -> None:
        """Note how many messages from the hub were dropped since the start.

        Args:
            total: Their number, which has not changed if nothing was dropped since the last call.
        """
        self._undelivered = total
        if total > self._reported_undelivered:
            self._schedule()

    def report_now(self) -> None:
        """Report what was dropped since the last report, if anything was."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unsent, self._unsent = self._unsent, 0
        if unsent:
            self._report(DroppedError(unsent, "there was no connection to send them on"))
        undelivered = self._undelivered - self._reported_undelivered
        self._reported_undelivered = self._undelivered
        if undelivered:
            text = "the application is slow, or a dial failed after they had come"
            self._report(DroppedError(undelivered, text))

    def _schedule(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_REPORT_SECONDS, self.report_now)
