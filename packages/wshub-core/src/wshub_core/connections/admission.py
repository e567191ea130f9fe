"""Admission: accepts the requests of clients, or refuses them with 503, 403, 401 or 429."""

import logging
from collections.abc import Callable
from contextvars import Context
from http import HTTPStatus
from math import ceil
from time import time
from typing import Any, cast

from wshub_core.logs import escape, get_logger
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

_MAX_LOGGED = 200
"""Characters of a path or an origin in the log."""

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
        return self.check_room(request) or identity

    def check_before_auth(self, request: Request) -> Response | None:
        """Run the checks that need no authenticator; return the refusal, or None."""
        refusal = self.check_room(request)
        if refusal is None and not self._is_origin_allowed(request):
            origin = request.header("origin") or request.header("sec-fetch-site") or ""
            why = f"origin {origin[:_MAX_LOGGED]!r}, see HubConfig.allowed_origins"
            self._note(HTTPStatus.FORBIDDEN, "origin_not_allowed", request, why)
            refusal = Response(HTTPStatus.FORBIDDEN, b"Forbidden\n")
        return refusal

    def check_room(self, request: Request) -> Response | None:
        """Check that the hub can take one more connection; return the refusal, or None."""
        unavailable = HTTPStatus.SERVICE_UNAVAILABLE
        if self._is_closed:
            self._note(unavailable, "hub_not_running", request)
            return Response(unavailable, b"Hub is not running\n")
        if self._is_draining:
            self._note(unavailable, "draining", request)
            return _DRAINING
        limit = self._config.max_connections
        if limit is not None and self._count_connections() >= limit:
            self._note(unavailable, "too_many_connections", request)
            headers = {"Retry-After": _RETRY_AFTER_SECONDS}
            return Response(unavailable, b"Too many connections\n", headers)
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
        return self._refuse_authentication(request, result)

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

    def _refuse_authentication(self, request: Request, result: AuthResult) -> Response:
        # The text of an AuthError holds no secret. The text of another exception may hold one, so
        # only its type is logged.
        error = result.error
        why = str(error) if isinstance(error, AuthError) else type(error).__name__
        headers = {}
        # Whole seconds, rounded up: a client that retries on time must not be too early.
        if isinstance(error, AuthError) and error.retry_after is not None:
            headers["Retry-After"] = str(ceil(error.retry_after))
        if isinstance(error, TooManyAttemptsError):
            self._note(HTTPStatus.TOO_MANY_REQUESTS, "too_many_attempts", request, why)
            return Response(HTTPStatus.TOO_MANY_REQUESTS, b"Too many attempts\n", headers)
        if result.challenge:
            headers["WWW-Authenticate"] = result.challenge
        self._note(HTTPStatus.UNAUTHORIZED, "unauthorized", request, why)
        return Response(HTTPStatus.UNAUTHORIZED, b"Unauthorised\n", headers)

    def _is_origin_allowed(self, request: Request) -> bool:
        config = self._config
        if config.check_origin is not None:
            # Only True allows; other truthy values do not.
            return (
                self._callbacks.call_plain("check_origin", False, config.check_origin, request)
                is True
            )
        return origin_allowed(request, config.allowed_origins, require_origin=config.require_origin)

    def _note(self, status: HTTPStatus, code: str, request: Request, why: str = "") -> None:
        self.note_refusal(status, code, request.remote_address, request.path, why)

    def note_refusal(
        self, status: int, code: str, address: str, path: str = "", why: str = ""
    ) -> None:
        """Count and log a refused request; transports report the requests that they refuse.

        Args:
            status: The status of the response; 0 if there is none.
            code: The reason, as one word.
            address: The address of the peer.
            path: The path of the request, without the query, which may hold a token.
            why: More about the reason, without secrets.
        """
        self._counters.refusals[status] += 1
        path = path[:_MAX_LOGGED]
        # A wrong setting refuses browsers by their origin, so these records are warnings.
        level = logging.WARNING if status == HTTPStatus.FORBIDDEN else logging.INFO
        logger.log(
            level,
            "refused a request for %r from %s: %s %s%s",
            path,
            address or "a local socket",
            status or "no response",
            code,
            why and f" ({escape(why)})",
            extra={"kind": code, "status": status, "code": code, "path": path, "address": address},
        )
