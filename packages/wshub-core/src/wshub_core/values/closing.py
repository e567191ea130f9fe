"""Why connections end: the close codes that a hub sends (RFC 6455 section 7.4)."""

from enum import IntEnum

from wshub_core.values.errors import InvalidCloseError


class CloseCode(IntEnum):
    """The close codes that a hub sends, and what a client should do about each."""

    NORMAL = 1000
    """Closed by the server's application. Retry only if there is something new to say."""
    GOING_AWAY = 1001
    """The hub is closing. Retry later, with backoff."""
    PROTOCOL_ERROR = 1002
    """The client broke RFC 6455. Do not retry with the same code."""
    INVALID_DATA = 1007
    """A text message was not UTF-8. Do not retry with the same data."""
    MESSAGE_TOO_BIG = 1009
    """The client sent a message above ``max_message_bytes``. Do not retry with the same message."""
    SLOW_CONSUMER = 1013
    """The client read too slowly and its outbox was full. Retry later, and read faster."""


def validate_close(code: int, reason: str) -> None:
    """Check a close code and a reason that an application wants to send.

    Raises:
        InvalidCloseError: The code is none that an endpoint may send (RFC 6455 section 7.4.1), or
            the reason does not fit into a close frame (123 bytes of UTF-8, section 5.5).
    """
    if not (3000 <= code <= 4999 or 1000 <= code <= 1014) or code in (1004, 1005, 1006):
        raise InvalidCloseError(f"close code {code} must not be sent: use 1000 or 3000 to 4999")
    try:
        size = len(reason.encode())
    except UnicodeEncodeError:
        raise InvalidCloseError(
            "close reason has a lone surrogate, which UTF-8 cannot hold"
        ) from None
    if size > 123:
        raise InvalidCloseError(f"close reason has {size} bytes, a close frame holds 123")
