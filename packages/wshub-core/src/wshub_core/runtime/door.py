"""The door: who may come in, judged by the request with which a client knocks."""

from collections.abc import Callable
from contextvars import Context
from http import HTTPStatus
from math import ceil
from time import time
from typing import Any, cast

from wshub_core.logs import get_logger
from wshub_core.runtime.callbacks import Callbacks
from wshub_core.state.counters import Counters
from wshub_core.values.auth import AuthResult, TokenAuthenticator, settle_auth_result
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import (
    AuthenticatorError,
    AuthError,
    TooManyAttemptsError,
)
from wshub_core.values.http import Request, Response
from wshub_core.values.origins import origin_allowed

logger = get_logger("wshub.door")

_RETRY_AFTER_SECONDS = "5"
"""When a client that found the hub full should come back."""

ANYONE = AuthResult(True)
"""Who a client is when nobody asks."""


class Door:
    """Lets requests in or refuses them: first 503, then 403, then 401.

    Args:
        config: The hub's settings.
        callbacks: Calls the application's functions.
        counters: Where refusals are counted.
        count_connections: Tells how many connections there are.

    Attributes:
        is_closed: Whether everyone is refused.
    """

    def __init__(
        self,
        config: HubConfig,
        callbacks: Callbacks,
        counters: Counters,
        count_connections: Callable[[], int],
    ) -> None:
        self.is_closed = False
        self._config = config
        self._callbacks = callbacks
        self._counters = counters
        self._count_connections = count_connections

    async def admit(self, request: Request, context: Context) -> AuthResult | Response:
        """Judge a request from beginning to end; return who comes in, or the refusal.

        Args:
            request: The request.
            context: The context of the calling task, in which the application's functions run.
        """
        refusal = self.check(request)
        if refusal is not None:
            return refusal
        identity = await self.authenticate(request, context)
        if isinstance(identity, Response):
            return identity
        # The hub may have been closed, or filled up, meanwhile.
        return self.check_room() or identity

    def check(self, request: Request) -> Response | None:
        """Judge whether a request may go on; return the refusal, or None to let it."""
        refusal = self.check_room()
        if refusal is None and not self._is_origin_allowed(request):
            logger.warning(
                "refused origin %r from %s; HubConfig.allowed_origins decides",
                request.header("origin"),
                request.remote_address,
            )
            refusal = self._refusal(HTTPStatus.FORBIDDEN, "Forbidden")
        return refusal

    def check_room(self) -> Response | None:
        """Judge whether the hub takes one more connection now; return the refusal, or None."""
        if self.is_closed:
            return self._refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Hub is not running")
        limit = self._config.max_connections
        if limit is not None and self._count_connections() >= limit:
            return self._refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Too many connections",
                {"Retry-After": _RETRY_AFTER_SECONDS},
            )
        return None

    async def authenticate(self, request: Request, context: Context) -> AuthResult | Response:
        """Find out who a client is; return the refusal if it may not connect.

        Takes at most ``open_timeout`` for the authenticator, and as long for ``on_auth_failure``.
        """
        authenticator = self._config.authenticator
        if authenticator is None:
            return ANYONE
        result = await self._judge(authenticator, request, context)
        if result.valid:
            return result
        # The texts of AuthErrors hold no secrets; of others nobody knows that.
        error = result.error
        why = error if isinstance(error, AuthError) else type(error).__name__
        logger.info("refused authentication from %s: %s", request.remote_address, why)
        on_auth_failure = self._config.on_auth_failure
        if on_auth_failure is not None:
            await self._callbacks.call_within(
                self._config.open_timeout,
                context,
                "on_auth_failure",
                None,
                on_auth_failure,
                request,
                result,
            )
        return self._refuse_authentication(result)

    @property
    def takes_tokens(self) -> bool:
        """Whether the authenticator judges tokens that come after the handshake."""
        return isinstance(self._config.authenticator, TokenAuthenticator)

    async def authenticate_token(self, token: str, context: Context) -> AuthResult:
        """Find out whose token this is; takes at most ``open_timeout``."""
        authenticator = cast("TokenAuthenticator", self._config.authenticator)
        return await self._judge(authenticator.authenticate_token, token, context)

    async def _judge(
        self, authenticate: Callable[..., Any], presented: Request | str, context: Context
    ) -> AuthResult:
        failed = AuthResult(False, error=AuthenticatorError())
        result = await self._callbacks.call_within(
            self._config.open_timeout, context, "authenticator", failed, authenticate, presented
        )
        try:
            # A function without annotations can return anything, and nobody gets in by accident.
            return settle_auth_result(result, time())
        except (AttributeError, TypeError):
            logger.exception("the authenticator has returned nonsense")
            return failed

    def _refuse_authentication(self, result: AuthResult) -> Response:
        headers = {}
        if isinstance(result.error, AuthError) and result.error.retry_after is not None:
            headers["Retry-After"] = str(ceil(result.error.retry_after))
        if isinstance(result.error, TooManyAttemptsError):
            return self._refusal(HTTPStatus.TOO_MANY_REQUESTS, "Too many attempts", headers)
        if result.challenge:
            headers["WWW-Authenticate"] = result.challenge
        return self._refusal(HTTPStatus.UNAUTHORIZED, "Unauthorised", headers)

    def _is_origin_allowed(self, request: Request) -> bool:
        config = self._config
        if config.check_origin is not None:
            return (
                self._callbacks.call_plain("check_origin", False, config.check_origin, request)
                is True
            )
        return origin_allowed(request, config.allowed_origins, require_origin=config.require_origin)

    def _refusal(
        self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None
    ) -> Response:
        self._counters.refusals += 1
        return Response(status, f"{text}\n".encode(), headers or {})
