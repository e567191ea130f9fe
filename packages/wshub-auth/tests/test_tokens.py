"""Authenticators whose tokens the application validates, and several of them as one."""

import inspect
from collections.abc import Awaitable
from typing import Any

import pytest

from wshub_auth import (
    APIKeyAuthenticator,
    BearerHeader,
    BearerTokenAuth,
    CookieAuth,
    FirstOf,
    InvalidTokenError,
    KeysUnavailableError,
    QueryParameter,
    QueryTokenAuth,
    SubprotocolTokenAuth,
    TokenAuth,
)
from wshub_core import AuthExpiredError, AuthResult, Request, TokenAuthenticator

BEARER = Request("GET", "/ws", headers={"authorization": ("Bearer good",)})
QUERY = Request("GET", "/ws", "token=good")
SUBPROTOCOL = Request("GET", "/ws", headers={"sec-websocket-protocol": ("wshub.bearer, good",)})
COOKIE = Request("GET", "/ws", headers={"cookie": ("session=good",)})
NOTHING = Request("GET", "/ws")


def validate(token: str) -> AuthResult:
    return AuthResult(token == "good", " alice ", {"token_length": len(token)})


async def validate_later(token: str) -> AuthResult:
    return validate(token)


async def ask(authenticator: Any, request: Request) -> AuthResult:
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
async def test_each_kind_finds_its_token_and_only_its_own(
    validator: Any, kind: Any, request_: Request, missing: str, challenge: str
) -> None:
    authenticator = kind(validator)
    accepted = await ask(authenticator, request_)
    assert (accepted.valid, accepted.user_id) == (True, "alice")
    assert accepted.claims == {"token_length": 4}
    for other in {
        id(each): each for each in (BEARER, QUERY, SUBPROTOCOL, COOKIE, NOTHING)
    }.values():
        if other is not request_:
            refused = await ask(authenticator, other)
            assert (str(refused.error), refused.challenge) == (missing, challenge)


async def test_what_a_validator_refuses_stays_refused_with_its_error() -> None:
    error = PermissionError("expired yesterday")

    def refuse(token: str) -> AuthResult:
        return AuthResult(False, "alice", error=error, challenge='Bearer realm="x"')

    refused = await ask(BearerTokenAuth(refuse), BEARER)
    assert refused.error is error
    assert refused.challenge == 'Bearer realm="x"'
    assert (await ask(BearerTokenAuth(validate), BEARER)).valid


async def test_a_success_is_settled() -> None:
    blank = await ask(BearerTokenAuth(lambda _: AuthResult(True, " ")), BEARER)
    assert str(blank.error) == "authenticated user ID must not be empty"
    odd = await ask(BearerTokenAuth(lambda _: AuthResult(True, "a", {"f": print})), BEARER)
    assert str(odd.error) == "authentication claims are invalid"
    claims: dict[str, Any] = {"roles": ["admin"]}
    kept = await ask(BearerTokenAuth(lambda _: AuthResult(True, "a", claims)), BEARER)
    claims["roles"].append("root")
    assert kept.claims == {"roles": ("admin",)}


async def test_a_token_is_looked_for_in_order() -> None:
    authenticator = TokenAuth(validate, BearerHeader(), QueryParameter())
    assert (await ask(authenticator, QUERY)).valid
    both = Request("GET", "/ws", "token=good", {"authorization": ("Bearer bad",)})
    assert not (await ask(authenticator, both)).valid
    broken = Request("GET", "/ws", "token=good", {"authorization": ("Basic bad",)})
    assert str((await ask(authenticator, broken)).error) == "malformed Authorization header"
    assert str((await ask(authenticator, NOTHING)).error) == "missing Authorization header"


async def test_a_fault_on_this_side_does_not_blame_the_token() -> None:
    def fail(token: str) -> AuthResult:
        return AuthResult(False, error=KeysUnavailableError(7.0))

    assert (await ask(BearerTokenAuth(fail), BEARER)).challenge == "Bearer"


# Several as one.


def raising(request: Request) -> AuthResult:
    raise LookupError("no database")


async def test_the_first_that_accepts_counts() -> None:
    asked = []

    def note(name: str) -> Any:
        def authenticate(request: Request) -> AuthResult:
            asked.append(name)
            return AuthResult(name != "a", name)

        return authenticate

    assert (await ask(FirstOf(note("a"), note("b"), note("c")), NOTHING)).user_id == "b"
    assert asked == ["a", "b"]


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
async def test_if_none_accepts_the_most_telling_error_counts(
    request_: Request, text: str, challenge: str
) -> None:
    authenticator = FirstOf(
        APIKeyAuthenticator({"secret": "alice"}),
        QueryTokenAuth(lambda _: AuthResult(False, error=InvalidTokenError("no"))),
    )
    refused = await ask(authenticator, request_)
    assert (str(refused.error), refused.challenge) == (text, challenge)


async def test_one_that_raises_or_talks_nonsense_keeps_nobody_else_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def nonsense(request: Request) -> Any:
        return True

    def blank(request: Request) -> AuthResult:
        return AuthResult(True, " ")

    authenticator = FirstOf(raising, nonsense, blank, QueryTokenAuth(validate))
    assert (await ask(authenticator, QUERY)).user_id == "alice"
    assert "no database" in caplog.text
    assert str((await ask(FirstOf(raising), QUERY)).error) == "authenticator panicked"


async def test_what_was_almost_right_is_told_rather_than_what_never_was() -> None:
    request = Request("GET", "/", "token=x", {"authorization": ("Bearer x",)})

    def refuse(error: Exception) -> QueryTokenAuth:
        return QueryTokenAuth(lambda _: AuthResult(False, error=error))

    keys = APIKeyAuthenticator({"secret": "alice"})
    for error in (KeysUnavailableError(7.0), AuthExpiredError()):
        for authenticator in (FirstOf(keys, refuse(error)), FirstOf(refuse(error), keys)):
            assert (await ask(authenticator, request)).error is error
    assert str((await ask(FirstOf(raising, keys), request)).error) == "invalid API key"


async def test_one_whose_time_is_over_does_not_stand_in_the_way() -> None:
    def stale(request: Request) -> AuthResult:
        return AuthResult(True, "alice", expires_at=1.0)

    assert (await ask(FirstOf(stale, QueryTokenAuth(validate)), QUERY)).valid


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_validator_that_raises_still_says_what_to_present(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(token: str) -> AuthResult:
        raise LookupError("no database")

    async def fail_later(token: str) -> AuthResult:
        return fail(token)

    refused = await ask(BearerTokenAuth(fail_later if is_async else fail), BEARER)
    assert (str(refused.error), refused.challenge) == ("authenticator panicked", "Bearer")
    assert "no database" in caplog.text


async def test_tokens_in_band_go_to_those_that_take_them() -> None:
    first = FirstOf(raising, QueryTokenAuth(validate), BearerTokenAuth(validate_later))
    assert isinstance(first, TokenAuthenticator)
    assert (await ask(first.authenticate_token, "good")).user_id == "alice"  # type: ignore[arg-type]
    assert not (await ask(first.authenticate_token, "bad")).valid  # type: ignore[arg-type]
    assert not isinstance(FirstOf(raising), TokenAuthenticator)
