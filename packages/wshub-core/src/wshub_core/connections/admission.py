"""Admission: accepts the requests of clients, or refuses them with 503, 403, 401 or 429."""

from collections.abc import Callable
from contextvars import Context
from http import HTTPStatus
from math import ceil
from time import time
from typing import Any, cast

from wshub_core.logs import get_logger
from wshub_core.loop.callbacks import Callbacks
from wshub_core.protocol.counters import Counters
from wshub_core.values.auth import AuthResult, TokenAuthenticator, normalize_auth_result
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import (
    AuthenticatorError,
    AuthError,
    TooManyAttemptsError,
)
from wshub_core.values.http import DrainingResponse, Request, Response
from wshub_core.values.origins import origin_allowed

logger = get_logger("wshub.admission")

_RETRY_AFTER_SECONDS = "5"
"""Seconds in the ``Retry-After`` header of a hub that has reached ``max_connections``."""

_DRAINING = DrainingResponse(
    HTTPStatus.SERVICE_UNAVAILABLE, b"Hub is restarting\n", {"Retry-After": "1"}
)
"""The refusal of a hub that is being drained. A load balancer notices the drain within about a
second, and then passes the client on to another hub.
"""

ANONYMOUS = AuthResult(True)
"""The identity of every client of a hub without an authenticator."""


class Admission:
    """Accepts or refuses the opening requests of clients.

    The checks run in this order: 503 if the hub is closed, drained or full, 403 if the origin is
    not allowed, 401 or 429 if the authenticator does not accept the request. A hub that is full
    runs no callback of the application.

    Args:
        config: The hub's settings.
        callbacks: Calls of the application's callbacks.
        counters: The hub's counters.
        count_connections: Returns the number of connections whose transport has not ended.
    """

    def __init__(
        self,
        config: HubConfig,
        callbacks: Callbacks,
        counters: Counters,
        count_connections: Callable[[], int],
    ) -> None:
        self._is_closed = False
        self._is_draining = False
        self._config = config
        self._callbacks = callbacks
        self._counters = counters
        self._count_connections = count_connections

    def close(self) -> None:
        """Refuse every further request with 503."""
        self._is_closed = True

    def drain(self) -> None:
        """Refuse every further request with 503, because the hub is being drained."""
        self._is_draining = True

    async def admit(self, request: Request, context: Context) -> AuthResult | Response:
        """Run all checks on a request.

        Args:
            request: The request.
            context: Context of the calling task, in which the application's callbacks run.

        Returns:
            The client's identity, or the refusal.
        """
        refusal = self.check_before_auth(request)
        if refusal is not None:
            return refusal
        identity = await self.authenticate(request, context)
        if isinstance(identity, Response):
            return identity
        # The hub may have been closed, or may have become full, while the authenticator ran.
        return self.check_room() or identity

    def check_before_auth(self, request: Request) -> Response | None:
        """Run the checks that need no authenticator; return the refusal, or None."""
        refusal = self.check_room()
        if refusal is None and not self._is_origin_allowed(request):
            logger.warning(
                "refused origin %r from %s; see HubConfig.allowed_origins",
                request.header("origin"),
                request.remote_address,
            )
            refusal = self._refusal(HTTPStatus.FORBIDDEN, "Forbidden")
        return refusal

    def check_room(self) -> Response | None:
        """Check that the hub can take one more connection; return the refusal, or None."""
        if self._is_closed:
            return self._refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Hub is not running")
        if self._is_draining:
            self.count_refusal()
            return _DRAINING
        limit = self._config.max_connections
        if limit is not None and self._count_connections() >= limit:
            return self._refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Too many connections",
                {"Retry-After": _RETRY_AFTER_SECONDS},
            )
        return None

    async def authenticate(self, request: Request, context: Context) -> AuthResult | Response:
        """Authenticate a client; return its identity, or the refusal.

        The authenticator and ``on_auth_failure`` have a time limit of ``open_timeout`` each.
        """
        authenticator = self._config.authenticator
        if authenticator is None:
            return ANONYMOUS
        result = await self.run_authenticator(authenticator, request, context)
        if result.valid:
            return result
        # The text of an AuthError holds no secret. The text of another exception may hold one, so
        # only its type is logged.
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
    def accepts_tokens(self) -> bool:
        """True if the authenticator accepts tokens after the handshake."""
        return isinstance(self._config.authenticator, TokenAuthenticator)

    async def authenticate_token(self, token: str, context: Context) -> AuthResult:
        """Authenticate a connected client by a new token, within ``open_timeout``."""
        authenticator = cast("TokenAuthenticator", self._config.authenticator)
        return await self.run_authenticator(authenticator.authenticate_token, token, context)

    async def run_authenticator(
        self, authenticate: Callable[..., Any], presented: Request | str, context: Context
    ) -> AuthResult:
        """Call an authenticator, within ``open_timeout``; a failed call is a refusal.

        Args:
            authenticate: The authenticator.
            presented: The request or the token that it checks.
            context: Context of the calling task, in which an async authenticator runs too.
        """
        failed = AuthResult(False, error=AuthenticatorError())
        result = await self._callbacks.call_within(
            self._config.open_timeout, context, "authenticator", failed, authenticate, presented
        )
        try:
            # An authenticator without annotations can return any value. Only an AuthResult counts.
            return normalize_auth_result(result, time())
        except (AttributeError, TypeError):
            logger.exception("the authenticator returned no valid AuthResult")
            return failed

    def _refuse_authentication(self, result: AuthResult) -> Response:
        headers = {}
        # Whole seconds, rounded up: a client that retries on time must not be too early.
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
            # Only True allows; other truthy values do not.
            return (
                self._callbacks.call_plain("check_origin", False, config.check_origin, request)
                is True
            )
        return origin_allowed(request, config.allowed_origins, require_origin=config.require_origin)

    def _refusal(
        self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None
    ) -> Response:
        self.count_refusal()
        return Response(status, f"{text}\n".encode(), headers or {})

    def count_refusal(self) -> None:
        """Count a refused request; transports count the requests that they refuse themselves."""
        self._counters.refusals += 1
