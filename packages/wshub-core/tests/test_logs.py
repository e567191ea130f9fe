"""The throttle of the log: few records of each kind, and a count of the others."""

import logging
from collections.abc import Iterator

import pytest

from wshub_core.logs import PERIOD_SECONDS, RECORDS_PER_PERIOD, LogThrottle, get_logger


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logger(clock: Clock) -> Iterator[logging.Logger]:
    logger = logging.getLogger("wshub.test_logs")
    throttle = LogThrottle(clock)
    logger.addFilter(throttle)
    yield logger
    logger.removeFilter(throttle)


def test_only_a_few_records_of_a_flood_are_written(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1_000):
        logger.warning("refused %s", number)
    assert len(caplog.messages) == RECORDS_PER_PERIOD
    assert caplog.messages[0] == "refused 0"
    assert caplog.messages[-1] == "refused 4 (more of this kind are left out for 60 s)"


def test_the_next_period_says_how_many_were_left_out(
    logger: logging.Logger, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1_000):
        logger.warning("refused %s", number)
    clock.now += PERIOD_SECONDS
    logger.warning("refused %s", "again")
    logger.warning("refused %s", "once more")
    assert caplog.messages[-2:] == [
        "refused again (995 more of this kind were left out)",
        "refused once more",
    ]


def test_each_kind_of_record_has_its_own_limit(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20):
        logger.warning("one %d", number)
        logger.error("one %d", number)
        logger.warning("two %d", number)
        logger.error("%s failed", "on_connect", extra={"kind": "on_connect"})
        logger.error("%s failed", "on_message", extra={"kind": "on_message"})
    assert len(caplog.messages) == 5 * RECORDS_PER_PERIOD


def test_debug_records_are_not_limited(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger.name)
    for number in range(100):
        logger.debug("connected %d", number)
    assert len(caplog.messages) == 100


def test_a_record_keeps_its_traceback(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(RECORDS_PER_PERIOD):
        try:
            raise ValueError("mistake")
        except ValueError:
            logger.exception("failed")
    assert all(record.exc_info for record in caplog.records)


def test_every_logger_of_wshub_shares_one_throttle(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        get_logger("wshub.test_shared").warning("the same")
    assert len(caplog.messages) == RECORDS_PER_PERIOD
