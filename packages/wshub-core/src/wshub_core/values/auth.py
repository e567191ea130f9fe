"""Who a client is: what an authenticator says, and the rules on it."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from math import isfinite
from types import MappingProxyType
from typing import Protocol, TypeAlias, runtime_checkable

from wshub_core.values.errors import (
    AuthError,
    AuthExpiredError,
    InvalidClaimsError,
    MissingUserIDError,
)
from wshub_core.values.http import Request
from wshub_core.values.messages import JSON

_DEEPEST_CLAIMS = 64
"""How deep claims may be nested; identity providers stay below five."""

_CHALLENGE = re.compile(r"[\x20-\x7e]*")
"""What a header's value may be made of, without what nobody needs (RFC 9110 section 5.5)."""

_UNFINISHED = object()

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


Authenticator: TypeAlias = Callable[[Request], AuthResult | Awaitable[AuthResult]]
"""Decides who a client is, from the request of its handshake; plain or async.

Raising refuses the client, and so does taking longer than ``open_timeout``."""


@runtime_checkable
class TokenAuthenticator(Protocol):
    """An authenticator that also judges tokens that come later.

    A connection whose authentication ends stays open if its client sends a new token in time, in
    ``{"type":"authenticate","data":"<token>"}``.
    """

    def __call__(self, request: Request, /) -> AuthResult | Awaitable[AuthResult]:
        """Tell who a client is, from its request; see `Authenticator`."""

    def authenticate_token(self, token: str, /) -> AuthResult | Awaitable[AuthResult]:
        """Tell who a client is, from a token.

        Raising refuses the token, and so does taking longer than ``open_timeout``.
        """


def normalize_auth_result(result: AuthResult, now: float) -> AuthResult:
    """Return a result as the hub keeps it.

    The user id is trimmed, and the claims are copied: mappings become read-only, sequences tuples.
    A success without a user id, with claims that cannot be copied, or that is over already, becomes
    a refusal. A refusal stays as it is, but for an error where it has none.

    Args:
        result: What an authenticator has said.
        now: The Unix time.

    Raises:
        AttributeError, TypeError: It is no result, or one with values of other types. Nothing is
            taken for a yes that is not one, such as a coroutine that nobody has awaited.
    """
    if not isinstance(result.valid, bool) or not isinstance(result.user_id, str):
        raise TypeError("AuthResult.valid must be a bool and AuthResult.user_id a str")
    if not _CHALLENGE.fullmatch(result.challenge):
        raise TypeError("AuthResult.challenge must be printable ASCII")
    if not result.valid:
        return result if result.error else replace(result, error=AuthError("not authenticated"))
    try:
        user_id = result.user_id.strip()
        if not user_id:
            raise MissingUserIDError
        claims = _Copier().copy_claims(result.claims) if result.claims else None
        expires_at = _normalize_expiry(result.expires_at)
        if expires_at is not None and expires_at <= now:
            raise AuthExpiredError
    except AuthError as error:
        return AuthResult(False, error=error, challenge=result.challenge)
    return AuthResult(True, user_id, claims, expires_at=expires_at)


def _normalize_expiry(expires_at: float | None) -> float | None:
    if expires_at is None:
        return None
    try:
        # Databases give decimals, and more than a float holds is no time.
        end = float(expires_at)
    except (TypeError, ValueError, OverflowError):
        raise InvalidClaimsError from None
    if not isfinite(end):
        raise InvalidClaimsError
    return end


class _Copier:
    """Copies claims once each, so that what is shared stays shared, and cycles end."""

    def __init__(self) -> None:
        # The originals are held by whoever called, so no id is used twice.
        self._copies: dict[int, JSON] = {}

    def copy_claims(self, claims: JSON) -> Mapping[str, JSON]:
        if not isinstance(claims, Mapping):
            raise InvalidClaimsError
        return self._copy_mapping(claims, _DEEPEST_CLAIMS)

    def _copy_mapping(self, value: Mapping[str, JSON], depth: int) -> Mapping[str, JSON]:
        if depth == 0:
            raise InvalidClaimsError
        content: dict[str, JSON] = {}
        copied = MappingProxyType(content)
        # Before its content, which may contain it.
        self._copies[id(value)] = copied
        for key, each in value.items():
            content[key] = self._copy(each, depth - 1)
        return copied

    def _copy(self, value: JSON, depth: int) -> JSON:
        if isinstance(value, _Plain):
            return value
        if id(value) in self._copies:
            if self._copies[id(value)] is _UNFINISHED:
                raise InvalidClaimsError  # a tuple cannot contain itself
            return self._copies[id(value)]
        if isinstance(value, Mapping):
            return self._copy_mapping(value, depth)
        if depth > 0 and isinstance(value, list | tuple | set | frozenset):
            self._copies[id(value)] = _UNFINISHED
            kind = tuple if isinstance(value, list | tuple) else frozenset
            self._copies[id(value)] = kind(self._copy(each, depth - 1) for each in value)
            return self._copies[id(value)]
        raise InvalidClaimsError
