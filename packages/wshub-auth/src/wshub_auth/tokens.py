"""Authenticators for tokens that a function of the application validates."""

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
"""Tells whose token this is. Plain or async; raising refuses."""


class TokenAuth:
    """Reads a token from the request and has it validated.

    It is a `wshub_core.TokenAuthenticator`: a connected client can present a new token in band.

    Args:
        validate: Tells whose token it is.
        *sources: Where to look for it; the first place that has one counts.
    """

    def __init__(self, validate: Validator, *sources: CredentialSource) -> None:
        self._validate = validate
        self._sources = sources
        self._schemes = list(dict.fromkeys(each.scheme for each in sources if each.scheme))

    def __call__(self, request: Request) -> AuthResult | Awaitable[AuthResult]:
        """Tell who a client is, from its request."""
        missing: AuthError | None = None
        for source in self._sources:
            try:
                token = source.read(request)
            except MissingCredentialError as error:
                missing = missing or error
            except AuthError as error:
                return self._complete(AuthResult(False, error=error))
            else:
                return self.authenticate_token(token)
        return AuthResult(False, error=missing, challenge=", ".join(self._schemes))

    def authenticate_token(self, token: str) -> AuthResult | Awaitable[AuthResult]:
        """Tell who a client is, from its token."""
        try:
            check_credential(token)
        except AuthError as error:
            return self._complete(AuthResult(False, error=error))
        try:
            result = self._validate(token)
        except BaseException as error:
            if is_interrupt(error):
                raise
            return self._fail()
        return self._complete_later(result) if isawaitable(result) else self._complete(result)

    async def _complete_later(self, result: Awaitable[AuthResult]) -> AuthResult:
        try:
            return self._complete(await result)
        except BaseException as error:
            if is_interrupt(error):
                raise
            return self._fail()

    def _fail(self) -> AuthResult:
        logger.exception("validating a token failed")
        challenge = ", ".join(self._schemes)
        return AuthResult(False, error=AuthenticatorError(), challenge=challenge)

    def _complete(self, result: AuthResult) -> AuthResult:
        try:
            settled = normalize_auth_result(result, time.time())
        except (AttributeError, TypeError):
            return self._fail()
        if settled.valid or settled.challenge:
            return settled
        # RFC 6750 section 3.1; a token that may do later is not said to be wrong.
        is_wrong = getattr(settled.error, "retry_after", None) is None
        suffix = ' error="invalid_token"' if is_wrong else ""
        return replace(settled, challenge=", ".join(each + suffix for each in self._schemes))


class BearerTokenAuth(TokenAuth):
    """Accepts ``Authorization: Bearer <token>``, for programs.

    Args:
        validate: Tells whose token it is.
    """

    def __init__(self, validate: Validator) -> None:
        super().__init__(validate, BearerHeader())


class SubprotocolTokenAuth(TokenAuth):
    """Accepts a token among the subprotocols, for browsers; see `BearerSubprotocol`.

    Args:
        validate: Tells whose token it is.
    """

    def __init__(self, validate: Validator) -> None:
        super().__init__(validate, BearerSubprotocol())


class QueryTokenAuth(TokenAuth):
    """Accepts ``?token=…`` in the address; see `QueryParameter`.

    Args:
        validate: Tells whose token it is.
    """

    def __init__(self, validate: Validator) -> None:
        super().__init__(validate, QueryParameter())


class CookieAuth(TokenAuth):
    """Accepts a cookie, such as that of a web session.

    Args:
        name: The cookie's name.
        validate: Tells whose cookie it is, from its value as it was sent.
    """

    def __init__(self, name: str, validate: Validator) -> None:
        super().__init__(validate, Cookie(name))
