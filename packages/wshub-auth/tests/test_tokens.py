"""Token authenticators whose validator is a function of the application."""

import inspect
from collections.abc import Awaitable
from typing import Any

import pytest

from wshub_auth import (
    BearerHeader,
    BearerTokenAuth,
    CookieAuth,
    KeysUnavailableError,
    QueryParameter,
    QueryTokenAuth,
    SubprotocolTokenAuth,
    TokenAuth,
)
from wshub_core import AuthResult, Request

BEARER = Request("GET", "/ws", headers={"authorization": ("Bearer good",)})
QUERY = Request("GET", "/ws", "token=good")
SUBPROTOCOL = Request("GET", "/ws", headers={"sec-websocket-protocol": ("wshub.bearer, good",)})
COOKIE = Request("GET", "/ws", headers={"cookie": ("session=good",)})
NOTHING = Request("GET", "/ws")


def validate(token: str) -> AuthResult:
    return AuthResult(token == "good", " alice ", {"token_length": len(token)})


async def validate_later(token: str) -> AuthResult:
    return validate(token)


async def authenticate(authenticator: Any, request: Request) -> AuthResult:
    result: AuthResult | Awaitable[AuthResult] = authenticator(request)
    return await result if inspect.isawaitable(result) else result


@pytest.mark.parametrize("validator", [validate, validate_later])
@pytest.mark.parametrize(
    ("kind", "request_", "missing", "challenge"),
    [
        (BearerTokenAuth, BEARER, "missing Authorization header", "Bearer"),
        (QueryTokenAuth, QUERY, "missing token query parameter", ""),
        (SubprotocolTokenAuth, SUBPROTOCOL, "missing token subprotocol", ""),
        (lambda validate: CookieAuth("session", validate), COOKIE, "missing session cookie", ""),
    ],
)
async def test_each_authenticator_reads_only_its_own_source(
    validator: Any, kind: Any, request_: Request, missing: str, challenge: str
) -> None:
    authenticator = kind(validator)
    accepted = await authenticate(authenticator, request_)
    assert (accepted.valid, accepted.user_id) == (True, "alice")
    assert accepted.claims == {"token_length": 4}
    for other in {
        id(each): each for each in (BEARER, QUERY, SUBPROTOCOL, COOKIE, NOTHING)
    }.values():
        if other is not request_:
            refused = await authenticate(authenticator, other)
            assert (str(refused.error), refused.challenge) == (missing, challenge)


async def test_a_refusal_keeps_its_error_and_its_challenge() -> None:
    error = PermissionError("expired yesterday")

    def refuse(token: str) -> AuthResult:
        return AuthResult(False, "alice", error=error, challenge='Bearer realm="x"')

    refused = await authenticate(BearerTokenAuth(refuse), BEARER)
    assert refused.error is error
    assert refused.challenge == 'Bearer realm="x"'
    assert (await authenticate(BearerTokenAuth(validate), BEARER)).valid


async def test_a_success_is_normalized() -> None:
    blank = await authenticate(BearerTokenAuth(lambda _: AuthResult(True, " ")), BEARER)
    assert str(blank.error) == "authenticated user ID must not be empty"
    odd = await authenticate(BearerTokenAuth(lambda _: AuthResult(True, "a", {"f": print})), BEARER)
    assert str(odd.error) == "authentication claims are invalid"
    claims: dict[str, Any] = {"roles": ["admin"]}
    copied = await authenticate(BearerTokenAuth(lambda _: AuthResult(True, "a", claims)), BEARER)
    claims["roles"].append("root")
    assert copied.claims == {"roles": ("admin",)}


async def test_sources_are_read_in_order() -> None:
    authenticator = TokenAuth(validate, BearerHeader(), QueryParameter())
    assert (await authenticate(authenticator, QUERY)).valid
    both = Request("GET", "/ws", "token=good", {"authorization": ("Bearer bad",)})
    assert not (await authenticate(authenticator, both)).valid
    broken = Request("GET", "/ws", "token=good", {"authorization": ("Basic bad",)})
    refused = await authenticate(authenticator, broken)
    assert str(refused.error) == "malformed Authorization header"
    refused = await authenticate(authenticator, NOTHING)
    assert str(refused.error) == "missing Authorization header"


async def test_a_temporary_refusal_does_not_call_the_token_invalid() -> None:
    def fail(token: str) -> AuthResult:
        return AuthResult(False, error=KeysUnavailableError(7.0))

    assert (await authenticate(BearerTokenAuth(fail), BEARER)).challenge == "Bearer"


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_validator_that_raises_gives_a_refusal_with_a_challenge(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(token: str) -> AuthResult:
        raise LookupError("no database")

    async def fail_later(token: str) -> AuthResult:
        return fail(token)

    refused = await authenticate(BearerTokenAuth(fail_later if is_async else fail), BEARER)
    assert (str(refused.error), refused.challenge) == ("authenticator panicked", "Bearer")
    assert "no database" in caplog.text
