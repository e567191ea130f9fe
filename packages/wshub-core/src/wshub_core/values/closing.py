"""Why connections end: close codes (RFC 6455 section 7.4), causes, and what is told of them."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

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
    POLICY_VIOLATION = 1008
    """The application says that the client has done what it must not. Do not retry."""
    MESSAGE_TOO_BIG = 1009
    """The client sent a message above ``max_message_bytes``. Do not retry with the same message."""
    PONG_TIMEOUT = 1011
    """Nothing came from the client for ``pong_timeout``. Retry later, and answer pings."""
    TRY_AGAIN_LATER = 1013
    """The client read too slowly and its outbox was full, or the hub took nobody. Retry later."""
    UNAUTHORIZED = 3000
    """The client's authentication has expired, or it was not let in. Retry with a new token."""
    FORBIDDEN = 3003
    """The client's origin is not allowed. Do not retry."""


class DisconnectCause(StrEnum):
    """What ended a connection."""

    CLIENT_CLOSED = "client_closed"
    """The client sent a close frame."""
    SERVER_CLOSED = "server_closed"
    """`Connection.close`, `Server.close` or `Hub.close` was called."""
    LOST = "lost"
    """The network connection ended without a close frame."""
    PROTOCOL_ERROR = "protocol_error"
    """The client broke RFC 6455 or the limit on messages."""
    SLOW_CONSUMER = "slow_consumer"
    """The outbox was full, and the policy is to close."""
    WRITE_TIMEOUT = "write_timeout"
    """The client took no byte for ``write_timeout``, though there was something to send."""
    AUTH_EXPIRED = "auth_expired"
    """The time of what the client authenticated with was over."""
    PONG_TIMEOUT = "pong_timeout"
    """No byte came from the client for ``pong_timeout``."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """How a connection ended.

    Attributes:
        cause: What ended it; the first cause if there were several.
        code: The close code, of the side that said it first; 1006 if neither did.
        reason: The text that came with the code.
        dropped_messages: How many messages for this connection were dropped because its outbox was
            full.
    """

    cause: DisconnectCause
    code: int
    reason: str
    dropped_messages: int


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
        raise InvalidCloseError("close reason has a lone surrogate: it is no text") from None
    if size > 123:
        raise InvalidCloseError(f"close reason has {size} bytes, a close frame holds 123")
