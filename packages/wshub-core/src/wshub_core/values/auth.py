"""Who a client is: what an authenticator says, and the rules on it."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from math import inf
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from wshub_core.values.errors import AuthError, InvalidClaimsError, MissingUserIDError
from wshub_core.values.http import Request
from wshub_core.values.messages import JSON

_DEEPEST_CLAIMS = 64
"""How deep claims may be nested; identity providers stay below five."""

_Plain = str | int | float | bool | bytes | date | datetime | None


@dataclass(frozen=True, slots=True)
class AuthResult:
    """What an authenticator says about a request.

    Attributes:
        valid: Whether the client may connect.
        user_id: Who it is; must not be blank if it may.
        claims: What else is known of it: a mapping of JSON-like values.
        error: Why it may not connect; for the application's eyes, never sent to the client.
        expires_at: When that ends, as Unix time in seconds; the hub then closes the connection with
            3000. None for never.
        challenge: What a refused client could do about it: the value of ``WWW-Authenticate`` (RFC
            9110 section 11.6.1), such as ``Bearer``; empty for none.
    """

    valid: bool
    user_id: str = ""
    claims: Mapping[str, JSON] | None = None
    error: Exception | None = None
    expires_at: float | None = None
    challenge: str = ""


class Authenticator(Protocol):
    """Decides who may connect; a plain or an async function will do."""

    def __call__(self, request: Request, /) -> AuthResult | Awaitable[AuthResult]:
        """Tell who a client is, from the request with which it knocks.

        Raising refuses the client, and so does taking longer than ``open_timeout``.
        """


@runtime_checkable
class TokenAuthenticator(Authenticator, Protocol):
    """An authenticator that also judges tokens that come later.

    A connection whose authentication ends stays open if its client sends a new token in time, in
    ``{"type":"authenticate","data":"<token>"}``.
    """

    def authenticate_token(self, token: str, /) -> AuthResult | Awaitable[AuthResult]:
        """Tell who a client is, from a token.

        Raising refuses the token, and so does taking longer than ``open_timeout``.
        """


def settle_auth_result(result: AuthResult) -> AuthResult:
    """Return a result as the hub keeps it.

    The user id is trimmed, and the claims are copied: mappings become read-only, sequences tuples.
    A success without a user id, with claims that cannot be copied or with an end that is no finite
    number becomes a refusal. A refusal stays as it is, but for an error where it has none.

    Raises:
        AttributeError, TypeError: The result is none, or holds values of other types.
    """
    if not result.valid:
        return result if result.error else replace(result, error=AuthError("not authenticated"))
    user_id = result.user_id.strip()
    if not user_id:
        return AuthResult(False, error=MissingUserIDError())
    try:
        claims = _copy_mapping(result.claims, _DEEPEST_CLAIMS) if result.claims else None
    except InvalidClaimsError as error:
        return AuthResult(False, error=error)
    if result.expires_at is not None and not -inf < result.expires_at < inf:
        return AuthResult(False, error=InvalidClaimsError())
    return AuthResult(True, user_id, claims, expires_at=result.expires_at)


def _copy_mapping(value: Mapping[str, JSON], depth: int) -> Mapping[str, JSON]:
    if depth == 0:
        raise InvalidClaimsError
    return MappingProxyType({key: _copy(each, depth - 1) for key, each in value.items()})


def _copy(value: JSON, depth: int) -> JSON:
    if isinstance(value, _Plain):
        return value
    if isinstance(value, Mapping):
        return _copy_mapping(value, depth)
    if isinstance(value, list | tuple) and depth > 0:
        return tuple(_copy(each, depth - 1) for each in value)
    if isinstance(value, set | frozenset) and depth > 0:
        return frozenset(_copy(each, depth - 1) for each in value)
    raise InvalidClaimsError
