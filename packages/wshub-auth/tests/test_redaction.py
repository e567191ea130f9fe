"""The redaction of tokens in log records."""

import logging

import pytest

from wshub_auth import TokenRedactor


@pytest.mark.parametrize(
    ("message", "args", "expected"),
    [
        ("GET /ws?token=s3cret HTTP/1.1", (), "GET /ws?token=***"),
        ('%s - "WebSocket %s" 101', ("1.2.3.4", "/ws?a=b&token=s3cret&c=d"), "token=***&c=d"),
        ("%(path)s", ({"path": "/ws?ticket=s3cret#top"},), "?ticket=***#top"),
        ("/ws?access_token=s3cret", (), "access_token=***"),
        ("/ws?%74oken=s3cret", (), "/ws?%74oken=***"),
        ("/ws?tok%65n=a'b-s3cret&a=b", (), "/ws?tok%65n=***&a=b"),
        ("/ws?token=&a=b", (), "/ws?token=&a=b"),
        ("/ws?tokens=many", (), "/ws?tokens=many"),
        ("mytoken=3", (), "mytoken=3"),
        ("%d of %s", (3, "token"), "3 of token"),
    ],
)
def test_values_of_secret_parameters_are_replaced(
    message: str, args: tuple[object, ...], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("access")
    redactor = TokenRedactor()
    logger.addFilter(redactor)
    try:
        logger.warning(message, *args)
    finally:
        logger.removeFilter(redactor)
    assert expected in caplog.text
    assert "s3cret" not in caplog.text


def test_given_names_replace_the_default_names() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "/?key=s3cret&token=t", (), None)
    assert TokenRedactor("key").filter(record)
    assert record.getMessage() == "/?key=***&token=t"


def test_a_message_that_is_not_a_string_is_unchanged() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, ValueError("x"), (), None)
    assert TokenRedactor().filter(record)
    assert record.getMessage() == "x"
