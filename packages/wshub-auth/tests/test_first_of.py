"""The combination of several authenticators into one."""

import inspect
from collections.abc import Awaitable
from typing import Any

import pytest

from wshub_auth import (
    APIKeyAuthenticator,
    BearerTokenAuth,
    FirstOf,
    InvalidTokenError,
    KeysUnavailableError,
    QueryTokenAuth,
)
from wshub_core import AuthExpiredError, AuthResult, Request, TokenAuthenticator

QUERY = Request("GET", "/ws", "token=good")
NOTHING = Request("GET", "/ws")


def validate(token: str) -> AuthResult:
    return AuthResult(token == "good", "alice")


async def validate_later(token: str) -> AuthResult:
    return validate(token)


async def authenticate(authenticator: Any, request: Request) -> AuthResult:
    result: AuthResult | Awaitable[AuthResult] = authenticator(request)
    return await result if inspect.isawaitable(result) else result


def raising(request: Request) -> AuthResult:
    raise LookupError("no database")


async def test_authenticators_are_tried_in_order_until_one_accepts() -> None:
    tried = []

    def named(name: str) -> Any:
        def accept_unless_a(request: Request) -> AuthResult:
            tried.append(name)
            return AuthResult(name != "a", name)

        return accept_unless_a

    assert (await authenticate(FirstOf(named("a"), named("b"), named("c")), NOTHING)).user_id == "b"
    assert tried == ["a", "b"]


@pytest.mark.parametrize(
    ("request_", "text", "challenge"),
    [
        (NOTHING, "missing Authorization header", "Bearer"),
        (
            Request("GET", "/", headers={"authorization": ("Basic x",)}),
            "malformed Authorization header",
            'Bearer error="invalid_token"',
        ),
        (
            Request("GET", "/", headers={"authorization": ("Bearer x",)}),
            "invalid API key",
            'Bearer error="invalid_token"',
        ),
        (Request("GET", "/", "token=bad"), "invalid token: no", "Bearer"),
        (
            Request("GET", "/", "token=bad", {"authorization": ("Basic x",)}),
            "invalid token: no",
            'Bearer error="invalid_token"',
        ),
    ],
)
async def test_a_refusal_has_the_most_informative_error_and_all_challenges(
    request_: Request, text: str, challenge: str
) -> None:
    authenticator = FirstOf(
        APIKeyAuthenticator({"secret": "alice"}),
        QueryTokenAuth(lambda _: AuthResult(False, error=InvalidTokenError("no"))),
    )
    refused = await authenticate(authenticator, request_)
    assert (str(refused.error), refused.challenge) == (text, challenge)


async def test_an_authenticator_that_raises_or_returns_nonsense_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def nonsense(request: Request) -> Any:
        return True

    def blank(request: Request) -> AuthResult:
        return AuthResult(True, " ")

    authenticator = FirstOf(raising, nonsense, blank, QueryTokenAuth(validate))
    assert (await authenticate(authenticator, QUERY)).user_id == "alice"
    assert "no database" in caplog.text
    assert str((await authenticate(FirstOf(raising), QUERY)).error) == "authenticator panicked"


async def test_an_expired_credential_is_reported_rather_than_an_unknown_one() -> None:
    request = Request("GET", "/", "token=x", {"authorization": ("Bearer x",)})

    def refuse(error: Exception) -> QueryTokenAuth:
        return QueryTokenAuth(lambda _: AuthResult(False, error=error))

    keys = APIKeyAuthenticator({"secret": "alice"})
    for error in (KeysUnavailableError(7.0), AuthExpiredError()):
        for authenticator in (FirstOf(keys, refuse(error)), FirstOf(refuse(error), keys)):
            assert (await authenticate(authenticator, request)).error is error
    assert str((await authenticate(FirstOf(raising, keys), request)).error) == "invalid API key"


async def test_an_expired_result_does_not_stop_the_others() -> None:
    def stale(request: Request) -> AuthResult:
        return AuthResult(True, "alice", expires_at=1.0)

    assert (await authenticate(FirstOf(stale, QueryTokenAuth(validate)), QUERY)).valid


async def test_tokens_in_authenticate_frames_go_to_token_authenticators_only() -> None:
    first = FirstOf(raising, QueryTokenAuth(validate), BearerTokenAuth(validate_later))
    assert isinstance(first, TokenAuthenticator)
    assert (await authenticate(first.authenticate_token, "good")).user_id == "alice"  # type: ignore[arg-type]
    assert not (await authenticate(first.authenticate_token, "bad")).valid  # type: ignore[arg-type]
    assert not isinstance(FirstOf(raising), TokenAuthenticator)
