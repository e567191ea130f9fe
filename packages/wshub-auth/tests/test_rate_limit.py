"""The limit on failed attempts, for each address."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_auth import APIKeyAuthenticator, CookieAuth, FirstOf, QueryTokenAuth, RateLimit
from wshub_core import (
    AuthResult,
    InvalidConfigError,
    Request,
    TokenAuthenticator,
    TooManyAttemptsError,
)
from wshub_core.testing import ManualClock

KEYS = APIKeyAuthenticator({"good": "alice"})


def request(key: str | None, address: str = "192.0.2.1:5000") -> Request:
    headers = {} if key is None else {"authorization": (f"Bearer {key}",)}
    return Request("GET", "/ws", headers=headers, remote_address=address)


async def test_an_address_over_the_limit_waits_and_other_addresses_do_not() -> None:
    clock = ManualClock()
    limit = RateLimit(KEYS, attempts=3, seconds=60, clock=clock.time)
    for _ in range(3):
        assert str((await limit(request("bad"))).error) == "invalid API key"
    for key in ("bad", "good"):
        refused = await limit(request(key))
        assert isinstance(refused.error, TooManyAttemptsError)
        assert refused.error.retry_after == pytest.approx(20)
    # All ports of an address share a limit.
    assert not (await limit(request("good", "192.0.2.1:6000"))).valid
    assert (await limit(request("good", "192.0.2.2:5000"))).valid
    clock.advance(19)
    assert not (await limit(request("good"))).valid
    clock.advance(2)
    assert (await limit(request("good"))).valid
    assert str((await limit(request("bad"))).error) == "invalid API key"
    assert isinstance((await limit(request("bad"))).error, TooManyAttemptsError)


@pytest.mark.parametrize("key", [None, "good"])
async def test_a_success_and_a_missing_credential_cost_no_attempt(key: str | None) -> None:
    limit = RateLimit(KEYS, attempts=1, seconds=60, clock=ManualClock().time)
    errors = [(await limit(request(key))).error for _ in range(5)]
    assert not any(isinstance(error, TooManyAttemptsError) for error in errors)


async def test_a_wrong_credential_costs_an_attempt_also_if_another_validator_raised() -> None:
    def parse(cookie: str) -> AuthResult:
        raise ValueError("no session")

    limit = RateLimit(
        FirstOf(CookieAuth("session", parse), KEYS), attempts=3, clock=ManualClock().time
    )
    guess = Request(
        "GET", "/", headers={"cookie": ("session=!",), "authorization": ("Bearer bad",)}
    )
    errors = [(await limit(guess)).error for _ in range(5)]
    assert [isinstance(error, TooManyAttemptsError) for error in errors] == [False] * 3 + [True] * 2
    assert str(errors[0]) == "invalid API key"


async def test_an_authenticator_that_raises_costs_an_attempt() -> None:
    def fail(_: Request) -> AuthResult:
        raise LookupError("no database")

    limit = RateLimit(fail, attempts=2, clock=ManualClock().time)
    for _ in range(2):
        with pytest.raises(LookupError):
            await limit(request("x"))
    assert isinstance((await limit(request("x"))).error, TooManyAttemptsError)


async def test_an_expired_credential_costs_an_attempt() -> None:
    limit = RateLimit(
        lambda _: AuthResult(True, "alice", expires_at=1.0), attempts=1, clock=ManualClock().time
    )
    assert str((await limit(request("x"))).error) == "authentication has expired"
    assert isinstance((await limit(request("x"))).error, TooManyAttemptsError)


async def test_concurrent_valid_clients_wait_for_each_other_and_are_all_accepted() -> None:
    running = most = 0

    async def validate(token: str) -> AuthResult:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return AuthResult(True, token)

    limit = RateLimit(QueryTokenAuth(validate), attempts=3, clock=ManualClock().time)
    results = await asyncio.gather(
        *(limit(Request("GET", "/", f"token={n}", remote_address="a:1")) for n in range(20))
    )
    assert [result.user_id for result in results] == [str(n) for n in range(20)]
    assert most == 3
    assert vars(limit)["_buckets"] == {}


async def test_concurrent_attempts_count_separately() -> None:
    gate = asyncio.Event()

    async def validate(token: str) -> AuthResult:
        await gate.wait()
        return AuthResult(False)

    limit = RateLimit(QueryTokenAuth(validate), attempts=3, clock=ManualClock().time)
    attempts = [
        asyncio.create_task(limit(Request("GET", "/", "token=x", remote_address="a:1")))
        for _ in range(10)
    ]
    await asyncio.sleep(0)
    gate.set()
    errors = [(await each).error for each in attempts]
    assert sum(isinstance(error, TooManyAttemptsError) for error in errors) == 7


async def test_a_cancelled_attempt_counts_as_failed() -> None:
    async def hang(token: str) -> AuthResult:
        await asyncio.Event().wait()
        raise AssertionError

    limit = RateLimit(QueryTokenAuth(hang), attempts=1, clock=ManualClock().time)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await limit(Request("GET", "/", "token=x"))
    assert isinstance((await limit(Request("GET", "/", "token=x"))).error, TooManyAttemptsError)


async def test_the_number_of_stored_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wshub_auth.rate_limit._MAX_ADDRESSES", 100)
    clock = ManualClock()
    limit = RateLimit(KEYS, attempts=1, clock=clock.time)
    for number in range(300):
        await limit(request("bad", f"192.0.2.{number}:1"))
    assert len(vars(limit)["_buckets"]) == 100
    assert not (await limit(request("good", "192.0.2.299:1"))).valid
    assert (await limit(request("good", "192.0.2.0:1"))).valid


async def test_addresses_without_failed_attempts_are_not_stored() -> None:
    limit = RateLimit(KEYS, clock=ManualClock().time)
    for key in ("good", None):
        await limit(request(key))
    assert vars(limit)["_buckets"] == {}


@given(
    st.integers(1, 5),
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(0, 50), st.booleans()), max_size=40),
)
async def test_failures_never_exceed_the_limit_in_any_period(
    attempts: int, seconds: float, steps: list[tuple[float, bool]]
) -> None:
    clock = ManualClock()
    limit = RateLimit(KEYS, attempts=attempts, seconds=seconds, clock=clock.time)
    failures: list[float] = []
    for pause, is_good in steps:
        clock.advance(pause)
        result = await limit(request("good" if is_good else "bad"))
        if not isinstance(result.error, TooManyAttemptsError):
            assert result.valid == is_good
            if not is_good:
                failures.append(clock.time())
    for first in range(len(failures)):
        for last in range(first, len(failures)):
            allowance = attempts + (failures[last] - failures[first]) * attempts / seconds
            assert last - first + 1 <= allowance + 1e-3


async def test_an_address_function_can_read_the_header_of_a_proxy() -> None:
    def forwarded(request: Request) -> str:
        return ",".join(request.headers.get("x-forwarded-for", ())).rpartition(",")[2].strip()

    limit = RateLimit(KEYS, attempts=1, address=forwarded, clock=ManualClock().time)

    async def authenticate(key: str, client: str) -> Any:
        headers = {
            "authorization": (f"Bearer {key}",),
            # Some proxies add a header line instead of extending the client's.
            "x-forwarded-for": (f"forged-{key}, x", client),
        }
        return (await limit(Request("GET", "/", headers=headers, remote_address="p:1"))).valid

    assert not await authenticate("bad", "192.0.2.1")
    assert not await authenticate("good", "192.0.2.1")
    assert await authenticate("good", "192.0.2.2")


def test_it_is_a_token_authenticator_if_the_wrapped_authenticator_is_one() -> None:
    assert isinstance(RateLimit(KEYS), TokenAuthenticator)
    assert not isinstance(RateLimit(lambda _: AuthResult(True, "a")), TokenAuthenticator)


@pytest.mark.parametrize(
    "limits", [{"attempts": 0}, {"attempts": -1}, {"seconds": 0}, {"seconds": float("nan")}]
)
def test_limits_must_be_above_0(limits: Any) -> None:
    with pytest.raises(InvalidConfigError, match="must be above 0"):
        RateLimit(KEYS, **limits)
