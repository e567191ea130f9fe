"""The result of an authenticator, and the rules for it."""

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
"""Maximum depth of nested claims. Identity providers use less than five levels."""

_CHALLENGE = re.compile(r"[\x20-\x7e]*")
"""Characters of a challenge: the printable ASCII characters of a header (RFC 9110 section 5.5)."""

_UNFINISHED = object()

_Plain = str | int | float | bool | bytes | date | datetime | None


@dataclass(frozen=True, slots=True)
class AuthResult:
    """The result of an authenticator.

    Attributes:
        valid: Whether the client may connect.
        user_id: The user's id. It must not be blank if ``valid`` is True.
        claims: Further facts about the user: a mapping of JSON-like values.
        error: The reason of a refusal. It is for the application and is never sent to the client.
        expires_at: Time at which the authentication expires, as Unix time in seconds. The hub then
            closes the connection with code 3000. None for no expiry.
        challenge: The value of ``WWW-Authenticate`` in the response to a refused client, such as
            ``Bearer`` (RFC 9110 section 11.6.1). It names the credentials that the client can
            present. Empty for no such header.
    """

    valid: bool
    user_id: str = ""
    claims: Mapping[str, JSON] | None = None
    error: Exception | None = None
    expires_at: float | None = None
    challenge: str = ""


Authenticator: TypeAlias = Callable[[Request], AuthResult | Awaitable[AuthResult]]
"""A function that authenticates the client of a handshake request; plain or async.

The client is refused if the function raises, or takes longer than ``open_timeout``."""


@runtime_checkable
class TokenAuthenticator(Protocol):
    """An authenticator that also accepts new tokens from connected clients.

    A connection whose authentication expires stays open if its client sends a new token before, in
    ``{"type":"authenticate","data":"<token>"}``.
    """

    def __call__(self, request: Request, /) -> AuthResult | Awaitable[AuthResult]:
        """Authenticate the client of a handshake request; see `Authenticator`."""

    def authenticate_token(self, token: str, /) -> AuthResult | Awaitable[AuthResult]:
        """Authenticate a client by a token.

        The token is refused if the method raises, or takes longer than ``open_timeout``.
        """


def normalize_auth_result(result: AuthResult, now: float) -> AuthResult:
    """Return a result in the form in which the hub stores it.

    Whitespace around the user id is removed. The claims are copied: mappings become read-only,
    lists become tuples, and sets become frozensets. An accepting result becomes a refusal if its
    user id is blank, if its claims cannot be copied, or if it has already expired. A refusal gets
    an error if it has none, and is otherwise unchanged.

    Args:
        result: The result of an authenticator.
        now: The current Unix time, in seconds.

    Raises:
        AttributeError, TypeError: The argument is not an `AuthResult`, or has values of wrong
            types. Truthy values other than True, such as a coroutine that was not awaited, never
            count as an acceptance.
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
        # Databases return decimals. A number above the range of a float is not a valid time.
        end = float(expires_at)
    except (TypeError, ValueError, OverflowError):
        raise InvalidClaimsError from None
    if not isfinite(end):
        raise InvalidClaimsError
    return end


class _Copier:
    """A copier that copies each object of the claims once.

    Shared objects stay shared: a small structure that refers to the same objects many times has a
    small copy, too. Cycles of mappings are copied as cycles.
    """

    def __init__(self) -> None:
        # Copies by the id of the original. The caller holds the originals, so no id is reused.
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
        # Stored before the content is copied, because the content may refer to this mapping.
        self._copies[id(value)] = copied
        for key, each in value.items():
            content[key] = self._copy(each, depth - 1)
        return copied

    def _copy(self, value: JSON, depth: int) -> JSON:
        if isinstance(value, _Plain):
            return value
        if id(value) in self._copies:
            if self._copies[id(value)] is _UNFINISHED:
                # A list contains itself. Its copy would be a tuple, which cannot.
                raise InvalidClaimsError
            return self._copies[id(value)]
        if isinstance(value, Mapping):
            return self._copy_mapping(value, depth)
        if depth > 0 and isinstance(value, list | tuple | set | frozenset):
            self._copies[id(value)] = _UNFINISHED
            kind = tuple if isinstance(value, list | tuple) else frozenset
            self._copies[id(value)] = kind(self._copy(each, depth - 1) for each in value)
            return self._copies[id(value)]
        raise InvalidClaimsError
