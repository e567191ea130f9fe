"""Loggers that limit the number of similar records. All four packages use them.

Peers, servers and failing callbacks can cause a record for each message, which would fill the log.
"""

import logging
import time
from collections.abc import Callable

RECORDS_PER_PERIOD = 5
"""Number of records of one kind that are written in one period."""

PERIOD_SECONDS = 60.0
"""Length of a period, in seconds."""


class LogThrottle(logging.Filter):
    """A logging filter that passes a few records of each kind per minute and counts the others.

    A kind is a logger, a level and a message template; the arguments do not count. With
    ``extra={"kind": name}``, the name is a part of the kind, too. The last record of a period
    says that further records are left out. The first record of the next period says how many
    records were left out. Records below ``INFO`` always pass, because an application that enables
    them needs all of them.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._periods: dict[tuple[object, ...], _Period] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if a record is to be written."""
        if record.levelno < logging.INFO:
            return True
        now = self._clock()
        key = record.name, record.levelno, record.msg, getattr(record, "kind", "")
        period = self._periods.get(key)
        if period is None or now >= period.end:
            left_out = 0 if period is None else period.left_out
            period = self._periods[key] = _Period(now + PERIOD_SECONDS)
            if left_out:
                _append(record, f"{left_out} more of this kind were left out")
        if period.written == RECORDS_PER_PERIOD:
            period.left_out += 1
            return False
        period.written += 1
        if period.written == RECORDS_PER_PERIOD:
            _append(record, f"more of this kind are left out for {period.end - now:.0f} s")
        return True

    def reset(self) -> None:
        """Forget all kinds and their counts, for example between two tests."""
        self._periods.clear()


class _Period:
    """The counts of one kind of record in one period.

    Attributes:
        end: Time from which a record begins the next period.
        written: Number of records that were written.
        left_out: Number of records that were not written.
    """

    __slots__ = ("end", "left_out", "written")

    def __init__(self, end: float) -> None:
        self.end = end
        self.written = 0
        self.left_out = 0


def _append(record: logging.LogRecord, note: str) -> None:
    # The arguments are merged into the text and removed: formatting the text a second time would
    # fail on a percent sign in it.
    record.msg = f"{record.getMessage()} ({note})"
    record.args = None


def escape(text: str) -> str:
    """Return a text of a peer for the log, with escapes for all characters that do not print.

    Line breaks would begin a line that wshub has not written, and control characters of terminals
    would change other lines.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


throttle = LogThrottle()
"""The throttle of every logger of wshub."""


def get_logger(name: str) -> logging.Logger:
    """Return the throttled logger of a part of wshub.

    Use it wherever a peer, a server or application code can cause records.
    """
    logger = logging.getLogger(name)
    logger.addFilter(throttle)
    return logger
