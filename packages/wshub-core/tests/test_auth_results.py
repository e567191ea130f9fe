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


def normalize(result: AuthResult) -> AuthResult:
    return normalize_auth_result(result, NOW)


def test_a_success_is_trimmed_and_its_claims_are_copied_and_read_only() -> None:
    claims: dict[str, Any] = {"roles": ["admin"], "team": {"id": 7}, "empty": None}
    normalized = normalize(AuthResult(True, "  alice ", claims))
    claims["roles"].append("root")
    claims["team"]["id"] = 8
    assert normalized.valid
    assert normalized.user_id == "alice"
    assert normalized.claims is not None
    assert normalized.claims["roles"] == ("admin",)
    assert normalized.claims["team"]["id"] == 7
    with pytest.raises(TypeError, match="does not support item assignment"):
        normalized.claims["team"]["id"] = 9
    with pytest.raises(TypeError, match="does not support item assignment"):
        normalized.claims["new"] = 1  # type: ignore[index]


def test_empty_claims_become_none() -> None:
    assert normalize(AuthResult(True, "alice", {})).claims is None


@pytest.mark.parametrize("user_id", ["", "  ", "\t\n"])
def test_a_success_without_a_user_becomes_a_refusal(user_id: str) -> None:
    normalized = normalize(AuthResult(True, user_id, {"a": 1}))
    assert not normalized.valid
    assert normalized.claims is None
    assert isinstance(normalized.error, MissingUserIDError)
    assert str(normalized.error) == "authenticated user ID must not be empty"


def nested(depth: int) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    for _ in range(depth - 1):
        claims = {"a": claims}
    return claims


def test_claims_may_be_nested_64_levels_deep() -> None:
    assert normalize(AuthResult(True, "alice", nested(64))).valid


@pytest.mark.parametrize(
    "claims", [nested(65), {"f": print}, {"o": object()}, ["admin"], {"admin"}, "admin", 42]
)
def test_claims_that_cannot_be_copied_cause_a_refusal(claims: Any) -> None:
    normalized = normalize(AuthResult(True, "alice", claims))
    assert not normalized.valid
    assert isinstance(normalized.error, InvalidClaimsError)
    assert str(normalized.error) == "authentication claims are invalid"


def test_cycles_of_mappings_are_kept_and_cycles_of_lists_are_refused() -> None:
    claims: dict[str, Any] = {"team": {"lead": None}}
    claims["self"] = claims["list"] = claims
    claims["team"]["all"] = [claims["team"]]
    normalized = normalize(AuthResult(True, "alice", claims))
    assert normalized.claims is not None
    assert normalized.claims["self"] is normalized.claims["list"] is normalized.claims
    assert normalized.claims["team"]["all"][0] is normalized.claims["team"]
    endless: list[Any] = []
    endless.append({"a": endless})
    assert isinstance(normalize(AuthResult(True, "a", {"l": endless})).error, InvalidClaimsError)


def test_shared_claims_are_copied_once() -> None:
    claims: Any = {"leaf": 1}
    for _ in range(60):
        claims = {"a": claims, "b": [claims], "c": claims}
    normalized = normalize(AuthResult(True, "alice", claims))
    assert normalized.claims is not None
    assert normalized.claims["a"] is normalized.claims["b"][0]


def test_a_refusal_is_unchanged_but_always_has_an_error() -> None:
    refusal = AuthResult(False, error=AuthError("expired"))
    assert normalize(refusal) is refusal
    assert isinstance(normalize(AuthResult(False)).error, AuthError)


def test_a_refusal_without_an_error_keeps_its_challenge() -> None:
    assert normalize(AuthResult(False, challenge="Bearer")).challenge == "Bearer"


@pytest.mark.parametrize("end", [NOW + 1, int(NOW) + 1, Decimal("1000001"), Fraction(1_000_001)])
def test_an_expiry_becomes_a_float_of_seconds(end: Any) -> None:
    normalized = normalize(AuthResult(True, "alice", expires_at=end))
    assert normalized.expires_at == NOW + 1
    assert type(normalized.expires_at) is float


@pytest.mark.parametrize("end", [NOW, NOW - 1, 0, -1e300])
def test_a_past_expiry_causes_a_refusal(end: float) -> None:
    normalized = normalize(AuthResult(True, "alice", expires_at=end, challenge="Bearer"))
    assert (str(normalized.error), normalized.challenge) == ("authentication has expired", "Bearer")


@pytest.mark.parametrize(
    "end", [float("nan"), float("inf"), float("-inf"), 10**400, "soon", Decimal("NaN"), [1]]
)
def test_an_expiry_that_is_no_time_causes_a_refusal(end: Any) -> None:
    normalized = normalize(AuthResult(True, "alice", expires_at=end))
    assert isinstance(normalized.error, InvalidClaimsError)


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
def test_a_result_with_a_field_of_the_wrong_type_raises(nonsense: Any) -> None:
    with pytest.raises((AttributeError, TypeError)):
        normalize(nonsense)


def test_a_coroutine_that_was_not_awaited_is_not_a_success() -> None:
    coroutine = never_awaited()
    with pytest.raises(TypeError):
        normalize(AuthResult(cast(bool, coroutine), "eve"))
    coroutine.close()
