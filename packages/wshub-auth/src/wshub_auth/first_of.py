"""The combination of several authenticators into one."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from inspect import isawaitable

from wshub_auth.errors import (
    KeysUnavailableError,
    MalformedCredentialError,
    MissingCredentialError,
)
from wshub_core import (
    Authenticator,
    AuthenticatorError,
    AuthExpiredError,
    AuthResult,
    Request,
    TokenAuthenticator,
    normalize_auth_result,
)
from wshub_core.interrupts import is_interrupt
from wshub_core.logs import get_logger

logger = get_logger("wshub.auth")


class FirstOf:
    """An authenticator that tries other authenticators in order, until one accepts the client.

    If none accepts the client, the result has the most informative error. In descending order:

    1. a credential that was valid before or may be valid later (`wshub_core.AuthExpiredError`,
       `wshub_auth.KeysUnavailableError`);
    2. an invalid credential;
    3. an authenticator that raised (`wshub_core.AuthenticatorError`);
    4. a malformed credential (`wshub_auth.MalformedCredentialError`);
    5. a missing credential (`wshub_auth.MissingCredentialError`).

    Of equally informative errors, the result has the first. An authenticator that raises refuses
    the client, and the next authenticator is tried.

    Args:
        first: The first authenticator.
        *others: The further authenticators, in order.
    """

    def __init__(self, first: Authenticator, *others: Authenticator) -> None:
        authenticators = (first, *others)
        self._authenticators = authenticators
        self._token_authenticators = [
            each for each in authenticators if isinstance(each, TokenAuthenticator)
        ]
        if self._token_authenticators:
            # `TokenAuthenticator` is a runtime-checkable protocol: an object with this attribute
            # is an instance. The attribute must be absent if no authenticator accepts tokens.
            self.authenticate_token = self._authenticate_token

    async def __call__(self, request: Request) -> AuthResult:
        """Authenticate the client of a handshake request."""
        return await _try_in_order([(each, request) for each in self._authenticators])

    async def _authenticate_token(self, token: str) -> AuthResult:
        return await _try_in_order(
            [(each.authenticate_token, token) for each in self._token_authenticators]
        )


async def _try_in_order(
    attempts: list[tuple[Callable[..., AuthResult | Awaitable[AuthResult]], Request | str]],
) -> AuthResult:
    refusals = []
    for authenticate, credential in attempts:
        result = await _authenticate_safely(authenticate, credential)
        if result.valid:
            return result
        refusals.append(result)
    # RFC 9110 section 11.6.1: one field value can list the challenges of several schemes.
    challenges = dict.fromkeys(each.challenge for each in refusals if each.challenge)
    return replace(max(refusals, key=_informativeness), challenge=", ".join(challenges))


async def _authenticate_safely(
    authenticate: Callable[..., AuthResult | Awaitable[AuthResult]], credential: Request | str
) -> AuthResult:
    """Return the normalized result of an authenticator; an exception becomes a refusal."""
    try:
        result = authenticate(credential)
        return normalize_auth_result(await result if isawaitable(result) else result, time.time())
    except BaseException as error:
        if is_interrupt(error):
            raise
        logger.exception("an authenticator failed")
        return AuthResult(False, error=AuthenticatorError())


def _informativeness(refusal: AuthResult) -> int:
    """Return the rank of a refusal's error; a higher rank is more informative."""
    match refusal.error:
        case MissingCredentialError():
            return 0
        case MalformedCredentialError():
            return 1
        case AuthenticatorError():
            return 2
        case AuthExpiredError() | KeysUnavailableError():
            # Only the authenticator for this kind of credential gives these errors. The other
            # authenticators may call the same credential invalid, which has rank 3.
            return 4
        case _:
            return 3
