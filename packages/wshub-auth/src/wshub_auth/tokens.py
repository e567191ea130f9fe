"""Token authenticators: a source finds the token, a validator function identifies the user."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from inspect import isawaitable
from typing import TypeAlias

from wshub_auth.credentials import (
    BearerHeader,
    BearerSubprotocol,
    Cookie,
    CredentialSource,
    QueryParameter,
    check_credential,
)
from wshub_auth.errors import MissingCredentialError
from wshub_core import AuthenticatorError, AuthError, AuthResult, Request, normalize_auth_result
from wshub_core.interrupts import is_interrupt
from wshub_core.logs import get_logger

logger = get_logger("wshub.auth")

Validator: TypeAlias = Callable[[str], AuthResult | Awaitable[AuthResult]]
"""A function that identifies the user of a token; plain or async.

A validator that raises refuses the token."""


class TokenAuth:
    """An authenticator that reads a token from the request and calls a validator with it.

    The class implements `wshub_core.TokenAuthenticator`, so a connected client can present a new
    token in an ``authenticate`` frame.

    Args:
        validate: The validator.
        *sources: The places to search for a token, in order. The first place with a token is used,
            even if that token is refused.
    """

    def __init__(self, validate: Validator, *sources: CredentialSource) -> None:
        self._validate = validate
        self._sources = sources
        self._schemes = list(dict.fromkeys(each.scheme for each in sources if each.scheme))

    def __call__(self, request: Request) -> AuthResult | Awaitable[AuthResult]:
        """Authenticate the client of a handshake request."""
        missing: AuthError | None = None
        for source in self._sources:
            try:
                token = source.read(request)
            except MissingCredentialError as error:
                missing = missing or error
            except AuthError as error:
                # Only a missing credential continues the search. A malformed one ends it, so a
                # second credential cannot make up for a malformed first one.
                return self._normalize(AuthResult(False, error=error))
            else:
                return self.authenticate_token(token)
        # RFC 6750 section 3.1: a challenge to a request without credentials has no error code.
        return AuthResult(False, error=missing, challenge=", ".join(self._schemes))

    def authenticate_token(self, token: str) -> AuthResult | Awaitable[AuthResult]:
        """Authenticate a client by its token."""
        try:
            check_credential(token)
        except AuthError as error:
            return self._normalize(AuthResult(False, error=error))
        try:
            result = self._validate(token)
        except BaseException as error:
            if is_interrupt(error):
                raise
            return self._log_failure()
        return self._await_result(result) if isawaitable(result) else self._normalize(result)

    async def _await_result(self, result: Awaitable[AuthResult]) -> AuthResult:
        try:
            return self._normalize(await result)
        except BaseException as error:
            if is_interrupt(error):
                raise
            return self._log_failure()

    def _log_failure(self) -> AuthResult:
        """Log the exception of a validator and return the refusal of the token."""
        logger.exception("the validator of a token failed")
        # The token may be valid, so the challenge has no error code.
        challenge = ", ".join(self._schemes)
        return AuthResult(False, error=AuthenticatorError(), challenge=challenge)

    def _normalize(self, result: AuthResult) -> AuthResult:
        """Return a result as the hub uses it; a refusal gets a challenge if it has none."""
        try:
            normalized = normalize_auth_result(result, time.time())
        except (AttributeError, TypeError):
            return self._log_failure()
        if normalized.valid or normalized.challenge:
            return normalized
        # RFC 6750 section 3.1: "invalid_token" tells the client to get another token. A refusal
        # with `retry_after` is temporary: the same token may be accepted later.
        is_token_at_fault = getattr(normalized.error, "retry_after", None) is None
        suffix = ' error="invalid_token"' if is_token_at_fault else ""
        return replace(normalized, challenge=", ".join(each + suffix for each in self._schemes))


class BearerTokenAuth(TokenAuth):
    """An authenticator for ``Authorization: Bearer <token>``, for programs.

    Args:
        validate: The validator of the token.
    """

    def __init__(self, validate: Validator) -> None:
        super().__init__(validate, BearerHeader())


class SubprotocolTokenAuth(TokenAuth):
    """An authenticator for a token among the subprotocols, for browsers; see `BearerSubprotocol`.

    Args:
        validate: The validator of the token.
    """

    def __init__(self, validate: Validator) -> None:
        super().__init__(validate, BearerSubprotocol())


class QueryTokenAuth(TokenAuth):
    """An authenticator for ``?token=…`` in the URL; see `QueryParameter`.

    Args:
        validate: The validator of the token.
    """

    def __init__(self, validate: Validator) -> None:
        super().__init__(validate, QueryParameter())


class CookieAuth(TokenAuth):
    """An authenticator for a cookie, such as the session cookie of a web application.

    Args:
        name: The cookie's name.
        validate: The validator of the cookie's value. The value is not decoded.
    """

    def __init__(self, name: str, validate: Validator) -> None:
        super().__init__(validate, Cookie(name))
