"""Reasons for which a client is not authenticated.

Every class is a `wshub_core.AuthError`, and no error text contains a secret::

    AuthError
    ├── MissingCredentialError         the request has no credential of this kind
    │   ├── MissingAuthHeaderError     the request has no Authorization header
    │   └── MissingTokenError          the query, the subprotocols or the cookies have no token
    ├── MalformedCredentialError       the credential is malformed
    │   ├── MalformedAuthHeaderError   the Authorization header is not "Bearer <token>"
    │   └── MalformedTokenError        a token is too long or has control characters
    ├── InvalidAPIKeyError             the API key is unknown
    ├── InvalidTicketError             the ticket is unknown, redeemed or expired
    ├── InvalidTokenError              the token's signature or a claim is invalid
    └── KeysUnavailableError           the keys that verify tokens cannot be fetched

Two related errors are in the core: `wshub_core.AuthExpiredError` for a credential that has expired,
and `wshub_core.TooManyAttemptsError` for a client with too many failed attempts.
"""

from wshub_core import AuthError


class MissingCredentialError(AuthError):
    """The request has no credential of this kind. Another authenticator may find one."""


class MissingAuthHeaderError(MissingCredentialError):
    """The ``Authorization`` header is missing or empty."""

    def __init__(self) -> None:
        super().__init__("missing Authorization header")


class MissingTokenError(MissingCredentialError):
    """The request has no token in the expected place.

    Args:
        where: The expected place, such as ``token query parameter``.
    """

    def __init__(self, where: str) -> None:
        super().__init__(f"missing {where}")


class MalformedCredentialError(AuthError):
    """The request has a credential, but the credential is malformed."""


class MalformedAuthHeaderError(MalformedCredentialError):
    """The ``Authorization`` header is not ``Bearer <token>`` (RFC 6750 section 2.1)."""

    def __init__(self) -> None:
        super().__init__("malformed Authorization header")


class MalformedTokenError(MalformedCredentialError):
    """A token is too long, contains control characters, or is wrongly encoded."""

    def __init__(self) -> None:
        super().__init__("malformed token")


class InvalidAPIKeyError(AuthError):
    """The API key is unknown."""

    def __init__(self) -> None:
        super().__init__("invalid API key")


class InvalidTicketError(AuthError):
    """The ticket is unknown, already redeemed, or expired."""

    def __init__(self) -> None:
        super().__init__("invalid ticket")


class InvalidTokenError(AuthError):
    """The token's signature or one of its claims is invalid.

    Args:
        reason: The check that failed, such as ``the signature is wrong``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid token: {reason}")


class KeysUnavailableError(AuthError):
    """The keys that verify tokens cannot be fetched. The client is not at fault.

    Attributes:
        retry_after: Seconds until the next fetch of the keys is allowed.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after: float = retry_after
        super().__init__("the keys that verify tokens cannot be fetched")
