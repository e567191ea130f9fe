"""Loggers that a flood of equal records cannot fill; all four packages take theirs here."""

import logging
import time
from collections.abc import Callable

RECORDS_PER_PERIOD = 5
"""How many records of one kind are written within one period."""

PERIOD_SECONDS = 60.0
"""How long a period is."""


class LogThrottle(logging.Filter):
    """Lets through a few records of each kind a minute and counts the others.

    A kind is a logger, a level and a message template, so the arguments do not matter. A record
    logged with ``extra={"kind": name}`` is told apart by that name, too. The last record of a
    period says that others are left out; the next one after it says how many were. Records below
    ``INFO`` pass: nobody sees them who has not asked for each of them.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._periods: dict[tuple[object, ...], _Period] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written."""
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
        """Forget what was written and left out, as between two tests."""
        self._periods.clear()


class _Period:
    """What was done with one kind of record since the first of a period.

    Attributes:
        end: When the next period may begin.
        written: How many records were written.
        left_out: How many were not.
    """

    __slots__ = ("end", "left_out", "written")

    def __init__(self, end: float) -> None:
        self.end = end
        self.written = 0
        self.left_out = 0


def _append(record: logging.LogRecord, note: str) -> None:
    record.msg = f"{record.getMessage()} ({note})"
    record.args = None


throttle = LogThrottle()
"""The throttle of every logger of wshub."""


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a part of wshub, throttled.

    Use it wherever somebody else can cause records: a peer, a server, or an application's code.
    """
    logger = logging.getLogger(name)
    logger.addFilter(throttle)
    return logger
