"""The rules that decide whether a client tries again after a close or a refused handshake.

They are the rows "refused", "terminal closes", "retry after" and "restart" of the client behavior.
"""

import re
from collections.abc import Mapping

from wshub_client.errors import ClientError, LostError
from wshub_core import CloseCode

_TERMINAL_CODES = {
    CloseCode.PROTOCOL_ERROR,
    CloseCode.INVALID_DATA,
    CloseCode.POLICY_VIOLATION,
    CloseCode.FORBIDDEN,
}

_MAX_RETRY_AFTER = 3_600.0
"""The longest wait that a server can ask for, in seconds; an attempt each hour costs it little."""


def is_terminal_close(code: int) -> bool:
    """Tell whether a close code ends the client."""
    return code in _TERMINAL_CODES or 4500 <= code <= 4999


def is_planned_restart(failure: ClientError) -> bool:
    """Tell whether the hub has closed a connection for a restart, and tells when to come back."""
    return (
        isinstance(failure, LostError)
        and failure.code == CloseCode.SERVICE_RESTART
        and failure.retry_after is not None
    )


def is_terminal_status(status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether the HTTP response to a handshake ends the client."""
    return 300 <= status < 400 or (status in (401, 403) and "Retry-After" not in headers)


def parse_retry_after(text: str) -> float | None:
    """Return the wait that a ``Retry-After`` header asks for, in seconds; None without one.

    Args:
        text: The value of the header. A date is ignored, because clocks differ.
    """
    return min(float(text), _MAX_RETRY_AFTER) if re.fullmatch(r"\d{1,9}", text) else None


def parse_retry_reason(reason: str) -> float | None:
    """Return the wait that a close reason such as ``retry-after: 5`` asks for, in seconds."""
    match = re.fullmatch(r"retry-after: *(\d{1,9})", reason)
    return parse_retry_after(match[1]) if match else None
