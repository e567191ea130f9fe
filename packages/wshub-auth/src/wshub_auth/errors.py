"""Why a client was not let in.

Every one is an `wshub_core.AuthError`, and no text holds a secret::

    AuthError
    ├── MissingCredentialError         the request holds no credential of this kind
    │   ├── MissingAuthHeaderError     no Authorization header
    │   └── MissingTokenError          no token in the query, the subprotocol or a cookie
    ├── MalformedCredentialError       there is one, but it is broken
    │   ├── MalformedAuthHeaderError   the Authorization header is no bearer token
    │   └── MalformedTokenError        a token is too long or has control characters
    ├── InvalidAPIKeyError             the API key is unknown
    ├── InvalidTicketError             the ticket is unknown, used up or too old
    ├── InvalidTokenError              the token's signature or claims are not right
    └── KeysUnavailableError           the keys to check a token with cannot be fetched

The tree goes on in the core: `wshub_core.AuthExpiredError` for a token that was valid once,
`wshub_core.TooManyAttemptsError` for a client that has failed too often.
"""

from wshub_core import AuthError


class MissingCredentialError(AuthError):
    """The request holds no credential of this kind; another authenticator may find one."""


class MissingAuthHeaderError(MissingCredentialError):
    """The request has no ``Authorization`` header, or an empty one."""

    def __init__(self) -> None:
        super().__init__("missing Authorization header")


class MissingTokenError(MissingCredentialError):
    """The request has no token where one was looked for.

    Args:
        where: Where it was looked for, such as ``token query parameter``.
    """

    def __init__(self, where: str) -> None:
        super().__init__(f"missing {where}")


class MalformedCredentialError(AuthError):
    """The request holds a credential that is broken."""


class MalformedAuthHeaderError(MalformedCredentialError):
    """The ``Authorization`` header is not ``Bearer <token>`` (RFC 6750 section 2.1)."""

    def __init__(self) -> None:
        super().__init__("malformed Authorization header")


class MalformedTokenError(MalformedCredentialError):
    """A token is too long, has control characters, or is not encoded as it should be."""

    def __init__(self) -> None:
        super().__init__("malformed token")


class InvalidAPIKeyError(AuthError):
    """The API key is unknown."""

    def __init__(self) -> None:
        super().__init__("invalid API key")


class InvalidTicketError(AuthError):
    """The ticket is unknown, was redeemed before, or is too old."""

    def __init__(self) -> None:
        super().__init__("invalid ticket")


class InvalidTokenError(AuthError):
    """The token's signature or claims are not right.

    Args:
        why: What is wrong with it.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"invalid token: {why}")


class KeysUnavailableError(AuthError):
    """The keys to check a token with cannot be fetched; that is not the client's fault.

    Attributes:
        retry_after: In how many seconds they are asked for again.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after: float = retry_after
        super().__init__("the keys to check tokens with cannot be fetched")
