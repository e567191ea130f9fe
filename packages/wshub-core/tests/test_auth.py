from typing import Any

import pytest

from wshub_core import (
    AuthError,
    AuthResult,
    InvalidClaimsError,
    MissingUserIDError,
    settle_auth_result,
)


def test_a_success_is_trimmed_and_its_claims_are_copied_and_read_only() -> None:
    claims: dict[str, Any] = {"roles": ["admin"], "team": {"id": 7}, "empty": None}
    settled = settle_auth_result(AuthResult(True, "  alice ", claims))
    claims["roles"].append("root")
    claims["team"]["id"] = 8
    assert settled.valid
    assert settled.user_id == "alice"
    assert settled.claims is not None
    assert settled.claims["roles"] == ("admin",)
    assert settled.claims["team"]["id"] == 7
    with pytest.raises(TypeError, match="does not support item assignment"):
        settled.claims["team"]["id"] = 9
    with pytest.raises(TypeError, match="does not support item assignment"):
        settled.claims["new"] = 1  # type: ignore[index]


def test_empty_claims_are_none() -> None:
    assert settle_auth_result(AuthResult(True, "alice", {})).claims is None


@pytest.mark.parametrize("user_id", ["", "  ", "\t\n"])
def test_a_success_without_a_user_is_a_refusal(user_id: str) -> None:
    settled = settle_auth_result(AuthResult(True, user_id, {"a": 1}))
    assert not settled.valid
    assert settled.claims is None
    assert isinstance(settled.error, MissingUserIDError)
    assert str(settled.error) == "authenticated user ID must not be empty"


def nested(depth: int) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    for _ in range(depth - 1):
        claims = {"a": claims}
    return claims


def test_claims_may_be_64_deep() -> None:
    assert settle_auth_result(AuthResult(True, "alice", nested(64))).valid


def endless() -> dict[str, Any]:
    claims: dict[str, Any] = {}
    claims["self"] = claims
    return claims


@pytest.mark.parametrize("claims", [nested(65), endless(), {"f": print}, {"o": object()}])
def test_claims_that_cannot_be_copied_are_a_refusal(claims: dict[str, Any]) -> None:
    settled = settle_auth_result(AuthResult(True, "alice", claims))
    assert not settled.valid
    assert isinstance(settled.error, InvalidClaimsError)
    assert str(settled.error) == "authentication claims are invalid"


def test_a_refusal_stays_as_it_is_but_has_an_error() -> None:
    refusal = AuthResult(False, error=AuthError("expired"))
    assert settle_auth_result(refusal) is refusal
    assert isinstance(settle_auth_result(AuthResult(False)).error, AuthError)


def test_a_refusal_without_an_error_keeps_its_challenge() -> None:
    assert settle_auth_result(AuthResult(False, challenge="Bearer")).challenge == "Bearer"


def test_an_end_stays() -> None:
    assert settle_auth_result(AuthResult(True, "alice", expires_at=1.5)).expires_at == 1.5


@pytest.mark.parametrize("expires_at", [float("nan"), float("inf"), float("-inf")])
def test_an_end_that_is_no_time_is_a_refusal(expires_at: float) -> None:
    settled = settle_auth_result(AuthResult(True, "alice", expires_at=expires_at))
    assert isinstance(settled.error, InvalidClaimsError)
