"""The end of a connection: close codes (RFC 6455 section 7.4), causes, and a summary."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from wshub_core.values.errors import InvalidCloseError


class CloseCode(IntEnum):
    """The close codes that a hub sends, each with the recommended reaction of the client."""

    NORMAL = 1000
    """The application closed the connection. Retry later, with exponential backoff."""
    GOING_AWAY = 1001
    """The hub is closing. Retry later, with exponential backoff."""
    PROTOCOL_ERROR = 1002
    """The client violated RFC 6455 or RFC 7692. Do not retry without changing the client."""
    INVALID_DATA = 1007
    """A text message was not UTF-8, or a compressed message was invalid. Do not retry with the same
    data."""
    POLICY_VIOLATION = 1008
    """The application closed the connection because the client violated a policy. Do not retry."""
    MESSAGE_TOO_BIG = 1009
    """The client sent a message above ``max_message_bytes``. Do not retry with the same message."""
    PONG_TIMEOUT = 1011
    """No byte came from the client for ``pong_timeout``. Retry later, and answer pings."""
    SERVICE_RESTART = 1012
    """The hub is being drained for a restart. Retry at once, on any hub."""
    TRY_AGAIN_LATER = 1013
    """The outbox was full because the client read too slowly. Retry later.

    Clients of ``wshub.v1`` get this code instead of the statuses 429 and 503, too."""
    UNAUTHORIZED = 3000
    """The authentication has expired. Retry with a new token.

    Clients of ``wshub.v1`` get this code instead of the status 401, too."""
    FORBIDDEN = 3003
    """The origin is not allowed. Do not retry.

    Only clients of ``wshub.v1`` get this code, instead of the status 403."""


class DisconnectCause(StrEnum):
    """The cause of the end of a connection."""

    CLIENT_CLOSED = "client_closed"
    """The client sent a close frame, or ended its event stream."""
    SERVER_CLOSED = "server_closed"
    """`Connection.close`, `Server.close` or `Hub.close` was called."""
    LOST = "lost"
    """The network connection ended without a close frame."""
    PROTOCOL_ERROR = "protocol_error"
    """The client violated RFC 6455 or RFC 7692, or sent a message above ``max_message_bytes``."""
    SLOW_CONSUMER = "slow_consumer"
    """The outbox was full, and ``HubConfig.overflow`` is ``"close"``."""
    WRITE_TIMEOUT = "write_timeout"
    """The client accepted no byte for ``write_timeout``, while data was waiting for it."""
    AUTH_EXPIRED = "auth_expired"
    """The client's authentication expired."""
    PONG_TIMEOUT = "pong_timeout"
    """No byte came from the client for ``pong_timeout``."""


RECONNECT_NOW = "retry-after: 0"
"""The reason of the closes of a drain. The hub spreads them, so clients need no backoff."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A summary of how a connection ended.

    Attributes:
        cause: The cause; if there were several, the first.
        code: The close code of the side that sent its close frame first; 1006 if neither side sent
            one.
        reason: The reason in the same close frame.
        dropped_messages: Number of messages for this connection that were dropped because its
            outbox was full.
    """

    cause: DisconnectCause
    code: int
    reason: str
    dropped_messages: int


def validate_close(code: int, reason: str) -> None:
    """Raise an error if a close code or a close reason must not be sent.

    Raises:
        InvalidCloseError: An endpoint must not send the code (RFC 6455 section 7.4.1), or the
            reason is longer than 123 bytes of UTF-8 (section 5.5).
    """
    # 1004 is reserved. 1005 and 1006 stand for a missing code and a missing close frame, and are
    # never sent (RFC 6455 section 7.4.1).
    if not (3000 <= code <= 4999 or 1000 <= code <= 1014) or code in (1004, 1005, 1006):
        raise InvalidCloseError(f"close code {code} must not be sent: use 1000 or 3000 to 4999")
    try:
        size = len(reason.encode())
    except UnicodeEncodeError:
        raise InvalidCloseError(
            "close reason has a lone surrogate, which UTF-8 cannot encode"
        ) from None
    # A control frame holds 125 bytes, and the code takes 2 of them.
    if size > 123:
        raise InvalidCloseError(f"close reason has {size} bytes, the limit is 123")
