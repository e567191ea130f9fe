"""Several authenticators as one."""

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
    """Asks authenticators one after the other; the first that accepts counts.

    If none does, the error is the most telling one. From the most to the least: a credential that
    was right once or may be so later, one that is wrong, one that made an authenticator raise, one
    that is broken, none at all. Of equals the first counts. An authenticator that raises has
    refused, and the others are still asked.

    Args:
        first: Whom to ask first.
        *others: Whom to ask then, in order.
    """

    def __init__(self, first: Authenticator, *others: Authenticator) -> None:
        authenticators = (first, *others)
        self._authenticators = authenticators
        self._token_authenticators = [
            each for each in authenticators if isinstance(each, TokenAuthenticator)
        ]
        if self._token_authenticators:
            # Only then is this a TokenAuthenticator.
            self.authenticate_token = self._authenticate_token

    async def __call__(self, request: Request) -> AuthResult:
        """Tell who a client is, from its request."""
        return await _first([(each, request) for each in self._authenticators])

    async def _authenticate_token(self, token: str) -> AuthResult:
        return await _first(
            [(each.authenticate_token, token) for each in self._token_authenticators]
        )


async def _first(
    questions: list[tuple[Callable[..., AuthResult | Awaitable[AuthResult]], Request | str]],
) -> AuthResult:
    refusals = []
    for authenticate, presented in questions:
        result = await _ask(authenticate, presented)
        if result.valid:
            return result
        refusals.append(result)
    challenges = dict.fromkeys(each.challenge for each in refusals if each.challenge)
    return replace(max(refusals, key=_telling), challenge=", ".join(challenges))


async def _ask(
    authenticate: Callable[..., AuthResult | Awaitable[AuthResult]], presented: Request | str
) -> AuthResult:
    try:
        result = authenticate(presented)
        return normalize_auth_result(await result if isawaitable(result) else result, time.time())
    except BaseException as error:
        if is_interrupt(error):
            raise
        logger.exception("an authenticator failed")
        return AuthResult(False, error=AuthenticatorError())


def _telling(refusal: AuthResult) -> int:
    """Return how much a refusal tells of what is wrong."""
    match refusal.error:
        case MissingCredentialError():
            return 0
        case MalformedCredentialError():
            return 1
        case AuthenticatorError():
            return 2
        case AuthExpiredError() | KeysUnavailableError():
            # Such a credential was almost right, though others may not even know its kind.
            return 4
        case _:
            return 3
