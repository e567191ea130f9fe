"""The HTTP API of a hub as an ASGI application."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from difflib import get_close_matches
from http import HTTPStatus
from inspect import isawaitable
from math import ceil
from typing import Any

import msgspec

from wshub_core.connections.running_hub import RunningHub
from wshub_core.endpoints.api.bodies import (
    check_content_type,
    decode_batch,
    decode_body,
    read_bounded_body,
)
from wshub_core.endpoints.api.errors import HUB_ERRORS, JSON_TYPE, APIError, explain
from wshub_core.endpoints.api.idempotency import answer_once, check_key
from wshub_core.endpoints.api.interface import APIHub
from wshub_core.endpoints.api.openapi import openapi_document
from wshub_core.endpoints.api.operations import OPERATIONS, PUBLISH, Operation
from wshub_core.endpoints.api.requests import PublishBatchRequest
from wshub_core.logs import escape, get_logger
from wshub_core.protocol.kept_answers import AnswerKey
from wshub_core.transports.asgi_messages import (
    ClientGoneError,
    Receive,
    Scope,
    Send,
    is_http,
    path_below_mount,
    read_request,
    send_response,
)
from wshub_core.values.auth import Authenticator, AuthResult
from wshub_core.values.errors import (
    AuthError,
    InvalidConfigError,
    TooManyAttemptsError,
)
from wshub_core.values.http import Request, Response

logger = get_logger("wshub.api")

_VERSION = "/v1/"
_DOCUMENT = "openapi.json"

_BODY_ALLOWANCE = 4_096
"""Bytes of a body beside the data of a message: names of fields, spaces, a channel."""

_MAX_SECONDS = 30.0
"""Time limit of an operation that waits for code of the application, or for other servers."""

_BATCH_FACTOR = 16
"""Size of a batch, in messages of the largest size."""


class API:
    """The HTTP API of a hub: an ASGI application, to mount at any path.

    Create it with `wshub_core.Hub.api`.

    Args:
        hub: The hub.
        authenticator: The authenticator of the clients of the API.
        get_running: Returns the running hub, or raises an error.

    Raises:
        InvalidConfigError: The authenticator is not a function.
    """

    def __init__(
        self, hub: APIHub, authenticator: Authenticator, get_running: Callable[[], RunningHub]
    ) -> None:
        if not callable(authenticator):
            raise InvalidConfigError(
                "hub.api(authenticator) needs a function that returns an AuthResult, "
                f"not {type(authenticator).__qualname__}"
            )
        self._hub = hub
        self._authenticator = authenticator
        self._get_running = get_running
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an HTTP request, as ASGI specifies."""
        if not await is_http(scope, receive, send):
            return
        try:
            response = await self._respond(scope, receive)
        except ClientGoneError:
            return
        except APIError as error:
            response = error.response
        except HUB_ERRORS as error:
            response = explain(error).response
        except Exception:
            # Code of the application runs in some operations, such as a store of histories.
            logger.exception("an operation of the HTTP API failed")
            response = APIError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal_error",
                "the operation failed: the log of the hub has the reason",
            ).response
        await send_response(send, "http", response)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        before, version, name = path_below_mount(scope).partition(_VERSION)
        if before or not version:
            name = ""
        if name == _DOCUMENT:
            _check_method(scope, "GET", "HEAD")
            return Response(HTTPStatus.OK, openapi_document(), content_type=JSON_TYPE)
        operation = OPERATIONS.get(name)
        if operation is None:
            raise _no_operation(name)
        _check_method(scope, "POST")
        request = read_request(scope)
        user_id = await self._admit(request, operation)
        check_content_type(request)
        key = check_key(request.headers.get("idempotency-key", ()))
        body = await read_bounded_body(request, receive, self._limit_of(operation))
        answer = await self._run(operation, body, user_id, key)
        return Response(HTTPStatus.OK, answer, content_type=JSON_TYPE)

    async def _admit(self, request: Request, operation: Operation) -> str:
        """Return the user of a request whose credentials allow an operation."""
        result = await self._get_running().admission.run_authenticator(
            self._authenticator, request, copy_context()
        )
        if not result.valid:
            raise _refuse(request, result)
        scopes = (result.claims or {}).get("scopes")
        # The claims are normalized, so a list is a tuple. A text would match its own parts.
        if not isinstance(scopes, tuple | frozenset) or operation.scope not in scopes:
            raise APIError(
                HTTPStatus.FORBIDDEN,
                "scope_missing",
                f"the operation {operation.name} needs the scope {operation.scope}",
            )
        return result.user_id

    def _limit_of(self, operation: Operation) -> int:
        size = self._hub.config.max_message_bytes
        messages = _BATCH_FACTOR if operation.request is PublishBatchRequest else 1
        return size * messages + _BODY_ALLOWANCE

    async def _run(self, operation: Operation, body: bytes, user_id: str, key: str) -> bytes:
        is_batch = operation.request is PublishBatchRequest
        request = await decode_batch(body) if is_batch else decode_body(operation.decoder, body)
        if operation.scope != PUBLISH:
            answer = operation.run(self._hub, request)
            return self._encoder.encode(await _limit(answer) if isawaitable(answer) else answer)

        def answer_request() -> bytes:
            return self._encoder.encode(operation.run(self._hub, request))

        if key:
            identity = AnswerKey(user_id, operation.name, key)
            fleet = self._get_running().fleet_operations
            payload = answer_once(fleet, identity, body, answer_request)
        else:
            payload = answer_request()
        # After the answer is kept: this waits while a bridge is behind, and the client may give up
        # and repeat the request meanwhile.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAX_SECONDS):
                await self._hub.drain()
        return payload


async def _limit(work: Awaitable[Any]) -> Any:
    """Return the result of an operation that waits, within `_MAX_SECONDS`."""
    task = asyncio.ensure_future(work)
    try:
        # Unlike `asyncio.timeout`, this does not wait for the end of the cancelled task: a channel
        # authorizer may ignore its cancellation.
        await asyncio.wait({task}, timeout=_MAX_SECONDS)
        if task.done():
            return task.result()
    finally:
        task.cancel()
    raise APIError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "timed_out",
        f"the operation took longer than {_MAX_SECONDS:g} seconds, and may be done in part",
    )


def _check_method(scope: Scope, *allowed: str) -> None:
    if scope["method"] not in allowed:
        raise APIError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method_not_allowed",
            f"use the method {allowed[0]}",
            headers={"Allow": ", ".join(allowed)},
        )


def _no_operation(name: str) -> APIError:
    close = get_close_matches(name[:80], OPERATIONS, 1)
    hint = f": did you mean {close[0]}?" if close else ""
    return APIError(HTTPStatus.NOT_FOUND, "not_found", f"there is no such operation{hint}")


def _refuse(request: Request, result: AuthResult) -> APIError:
    """Return the error for a client that is not authenticated."""
    error = result.error
    # The text of another exception may hold a secret, so only its type is logged.
    why = escape(str(error)) if isinstance(error, AuthError) else type(error).__name__
    logger.info("refused authentication from %s: %s", request.remote_address, why)
    headers = {}
    if isinstance(error, AuthError) and error.retry_after is not None:
        headers["Retry-After"] = str(ceil(error.retry_after))
    if isinstance(error, TooManyAttemptsError):
        return APIError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too_many_attempts",
            "too many attempts have failed",
            headers=headers,
        )
    # RFC 9110 section 15.5.2: a response with status 401 has a challenge.
    headers["WWW-Authenticate"] = result.challenge or "Bearer"
    return APIError(
        HTTPStatus.UNAUTHORIZED,
        "not_authenticated",
        "the request has no valid credentials, such as Authorization: Bearer KEY",
        headers=headers,
    )
