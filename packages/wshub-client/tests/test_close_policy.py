import pytest

from wshub_client.close_policy import (
    is_terminal_close,
    is_terminal_status,
    parse_retry_after,
    parse_retry_reason,
)


@pytest.mark.parametrize("code", [1002, 1007, 1008, 3003, 4500, 4999])
def test_terminal_close_codes(code: int) -> None:
    assert is_terminal_close(code)


@pytest.mark.parametrize(
    "code", [1000, 1001, 1003, 1005, 1006, 1009, 1011, 1012, 1013, 3000, 3999, 4000, 4499, 5000]
)
def test_other_close_codes(code: int) -> None:
    assert not is_terminal_close(code)


@pytest.mark.parametrize(
    ("status", "headers", "is_terminal"),
    [
        (401, {}, True),
        (403, {}, True),
        (401, {"Retry-After": "5"}, False),
        (403, {"Retry-After": "5"}, False),
        (301, {}, True),
        (308, {"Retry-After": "5"}, True),
        (200, {}, False),
        (404, {}, False),
        (426, {}, False),
        (429, {"Retry-After": "5"}, False),
        (500, {}, False),
        (503, {}, False),
    ],
)
def test_terminal_statuses(status: int, headers: dict[str, str], is_terminal: bool) -> None:
    assert is_terminal_status(status, headers) == is_terminal


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        ("0", 0.0),
        ("999999999", 3_600.0),
        ("", None),
        ("-5", None),
        ("5 seconds", None),
        ("retry-after: 5", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("9" * 400, None),
    ],
)
def test_the_wait_in_a_retry_after_header(text: str, seconds: float | None) -> None:
    assert parse_retry_after(text) == seconds


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        ("retry-after: 5", 5.0),
        ("retry-after:60", 60.0),
        ("retry-after: 999999999", 3_600.0),
        ("5", None),
        ("", None),
        ("slow consumer", None),
        ("come back: retry-after: 5", None),
    ],
)
def test_the_wait_in_a_close_reason(reason: str, seconds: float | None) -> None:
    assert parse_retry_reason(reason) == seconds
