from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import pytest

from wshub_core import (
    AuthError,
    AuthResult,
    InvalidClaimsError,
    MissingUserIDError,
    normalize_auth_result,
)

NOW = 1_000_000.0


def settle(result: AuthResult) -> AuthResult:
    return normalize_auth_result(result, NOW)


def test_a_success_is_trimmed_and_its_claims_are_copied_and_read_only() -> None:
    claims: dict[str, Any] = {"roles": ["admin"], "team": {"id": 7}, "empty": None}
    settled = settle(AuthResult(True, "  alice ", claims))
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
    assert settle(AuthResult(True, "alice", {})).claims is None


@pytest.mark.parametrize("user_id", ["", "  ", "\t\n"])
def test_a_success_without_a_user_is_a_refusal(user_id: str) -> None:
    settled = settle(AuthResult(True, user_id, {"a": 1}))
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
    assert settle(AuthResult(True, "alice", nested(64))).valid


@pytest.mark.parametrize(
    "claims", [nested(65), {"f": print}, {"o": object()}, ["admin"], {"admin"}, "admin", 42]
)
def test_claims_that_cannot_be_copied_are_a_refusal(claims: Any) -> None:
    settled = settle(AuthResult(True, "alice", claims))
    assert not settled.valid
    assert isinstance(settled.error, InvalidClaimsError)
    assert str(settled.error) == "authentication claims are invalid"


def test_cycles_of_mappings_stay_and_those_of_lists_cannot() -> None:
    claims: dict[str, Any] = {"team": {"lead": None}}
    claims["self"] = claims["list"] = claims
    claims["team"]["all"] = [claims["team"]]
    settled = settle(AuthResult(True, "alice", claims))
    assert settled.claims is not None
    assert settled.claims["self"] is settled.claims["list"] is settled.claims
    assert settled.claims["team"]["all"][0] is settled.claims["team"]
    endless: list[Any] = []
    endless.append({"a": endless})
    assert isinstance(settle(AuthResult(True, "a", {"l": endless})).error, InvalidClaimsError)


def test_what_is_shared_is_copied_once() -> None:
    claims: Any = {"leaf": 1}
    for _ in range(60):
        claims = {"a": claims, "b": [claims], "c": claims}
    settled = settle(AuthResult(True, "alice", claims))
    assert settled.claims is not None
    assert settled.claims["a"] is settled.claims["b"][0]


def test_a_refusal_stays_as_it_is_but_has_an_error() -> None:
    refusal = AuthResult(False, error=AuthError("expired"))
    assert settle(refusal) is refusal
    assert isinstance(settle(AuthResult(False)).error, AuthError)


def test_a_refusal_without_an_error_keeps_its_challenge() -> None:
    assert settle(AuthResult(False, challenge="Bearer")).challenge == "Bearer"


@pytest.mark.parametrize("end", [NOW + 1, int(NOW) + 1, Decimal("1000001"), Fraction(1_000_001)])
def test_an_end_stays_as_a_number_of_seconds(end: Any) -> None:
    settled = settle(AuthResult(True, "alice", expires_at=end))
    assert settled.expires_at == NOW + 1
    assert type(settled.expires_at) is float


@pytest.mark.parametrize("end", [NOW, NOW - 1, 0, -1e300])
def test_an_end_that_has_come_is_a_refusal(end: float) -> None:
    settled = settle(AuthResult(True, "alice", expires_at=end, challenge="Bearer"))
    assert (str(settled.error), settled.challenge) == ("authentication has expired", "Bearer")


@pytest.mark.parametrize(
    "end", [float("nan"), float("inf"), float("-inf"), 10**400, "soon", Decimal("NaN"), [1]]
)
def test_an_end_that_is_no_time_is_a_refusal(end: Any) -> None:
    settled = settle(AuthResult(True, "alice", expires_at=end))
    assert isinstance(settled.error, InvalidClaimsError)


async def never_awaited() -> bool:
    return False


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        True,
        AuthResult(cast(bool, "no"), "eve"),
        AuthResult(cast(bool, 1), "eve"),
        AuthResult(True, cast(str, b"eve")),
        AuthResult(True, cast(str, None)),
        AuthResult(False, challenge="Bearer\r\nX: y"),
        AuthResult(False, challenge="\u20ac"),
        AuthResult(False, challenge=cast(str, None)),
    ],
)
def test_nothing_is_taken_for_a_yes_that_is_not_one(nonsense: Any) -> None:
    with pytest.raises((AttributeError, TypeError)):
        settle(nonsense)


def test_a_yes_that_nobody_has_awaited_is_none() -> None:
    coroutine = never_awaited()
    with pytest.raises(TypeError):
        settle(AuthResult(cast(bool, coroutine), "eve"))
    coroutine.close()
