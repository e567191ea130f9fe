"""What an end means: come back, or do not (client behaviour, "refused" and "terminal closes")."""

import re
from collections.abc import Mapping

from wshub_core import CloseCode

_FINAL_CODES = {
    CloseCode.PROTOCOL_ERROR,
    CloseCode.INVALID_DATA,
    CloseCode.POLICY_VIOLATION,
    CloseCode.FORBIDDEN,
}

_LONGEST_WAIT = 3_600.0
"""The longest time that a server can ask for; beyond it, asking again is cheaper than waiting."""


def is_final_close(code: int) -> bool:
    """Tell whether a close code says not to come back."""
    return code in _FINAL_CODES or 4500 <= code <= 4999


def is_final_status(status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether a refused handshake says not to come back."""
    return 300 <= status < 400 or (status in (401, 403) and "Retry-After" not in headers)


def read_retry_after(text: str) -> float | None:
    """Return how many seconds a server wants to be left alone; None if it does not say.

    Args:
        text: The value of ``Retry-After``. A date is as good as nothing: clocks differ.
    """
    return min(float(text), _LONGEST_WAIT) if re.fullmatch(r"\d{1,9}", text) else None


def read_retry_reason(reason: str) -> float | None:
    """Return the same from the reason of a close, such as ``retry-after: 5``."""
    match = re.fullmatch(r"retry-after: *(\d{1,9})", reason)
    return read_retry_after(match[1]) if match else None
