import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_auth import (
    APIKeyAuthenticator,
    CookieAuth,
    FirstOf,
    QueryTokenAuth,
    RateLimit,
    client_address,
)
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


async def test_after_some_failures_an_address_has_to_wait_and_others_do_not() -> None:
    clock = ManualClock()
    limit = RateLimit(KEYS, attempts=3, seconds=60, clock=clock.time)
    for _ in range(3):
        assert str((await limit(request("bad"))).error) == "invalid API key"
    for key in ("bad", "good"):
        refused = await limit(request(key))
        assert isinstance(refused.error, TooManyAttemptsError)
        assert refused.error.retry_after == pytest.approx(20)
    # A port is not an address, and another address is.
    assert not (await limit(request("good", "192.0.2.1:6000"))).valid
    assert (await limit(request("good", "192.0.2.2:5000"))).valid
    clock.advance(19)
    assert not (await limit(request("good"))).valid
    clock.advance(2)
    assert (await limit(request("good"))).valid
    assert str((await limit(request("bad"))).error) == "invalid API key"
    assert isinstance((await limit(request("bad"))).error, TooManyAttemptsError)


@pytest.mark.parametrize("key", [None, "good"])
async def test_what_is_no_guess_costs_nothing(key: str | None) -> None:
    limit = RateLimit(KEYS, attempts=1, seconds=60, clock=ManualClock().time)
    errors = [(await limit(request(key))).error for _ in range(5)]
    assert not any(isinstance(error, TooManyAttemptsError) for error in errors)


async def test_a_guess_is_not_free_because_another_way_has_failed() -> None:
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


async def test_raising_is_failing() -> None:
    def fail(_: Request) -> AuthResult:
        raise LookupError("no database")

    limit = RateLimit(fail, attempts=2, clock=ManualClock().time)
    for _ in range(2):
        with pytest.raises(LookupError):
            await limit(request("x"))
    assert isinstance((await limit(request("x"))).error, TooManyAttemptsError)


async def test_an_attempt_that_is_over_already_has_failed() -> None:
    limit = RateLimit(
        lambda _: AuthResult(True, "alice", expires_at=1.0), attempts=1, clock=ManualClock().time
    )
    assert str((await limit(request("x"))).error) == "authentication has expired"
    assert isinstance((await limit(request("x"))).error, TooManyAttemptsError)


async def test_many_valid_clients_at_once_wait_for_each_other_and_all_come_in() -> None:
    judging = most = 0

    async def validate(token: str) -> AuthResult:
        nonlocal judging, most
        judging += 1
        most = max(most, judging)
        await asyncio.sleep(0.001)
        judging -= 1
        return AuthResult(True, token)

    limit = RateLimit(QueryTokenAuth(validate), attempts=3, clock=ManualClock().time)
    results = await asyncio.gather(
        *(limit(Request("GET", "/", f"token={n}", remote_address="a:1")) for n in range(20))
    )
    assert [result.user_id for result in results] == [str(n) for n in range(20)]
    assert most == 3
    assert vars(limit)["_records"] == {}


async def test_attempts_at_the_same_time_count_each() -> None:
    gate = asyncio.Event()

    async def validate(token: str) -> AuthResult:
        await gate.wait()
        return AuthResult(False)

    limit = RateLimit(QueryTokenAuth(validate), attempts=3, clock=ManualClock().time)
    knocking = [
        asyncio.create_task(limit(Request("GET", "/", "token=x", remote_address="a:1")))
        for _ in range(10)
    ]
    await asyncio.sleep(0)
    gate.set()
    errors = [(await each).error for each in knocking]
    assert sum(isinstance(error, TooManyAttemptsError) for error in errors) == 7


async def test_one_that_is_not_judged_in_time_has_failed() -> None:
    async def hang(token: str) -> AuthResult:
        await asyncio.Event().wait()
        raise AssertionError

    limit = RateLimit(QueryTokenAuth(hang), attempts=1, clock=ManualClock().time)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await limit(Request("GET", "/", "token=x"))
    assert isinstance((await limit(Request("GET", "/", "token=x"))).error, TooManyAttemptsError)


async def test_the_table_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wshub_auth.rate_limit._MOST_ADDRESSES", 100)
    clock = ManualClock()
    limit = RateLimit(KEYS, attempts=1, clock=clock.time)
    for number in range(300):
        await limit(request("bad", f"192.0.2.{number}:1"))
    assert len(vars(limit)["_records"]) == 100
    assert not (await limit(request("good", "192.0.2.299:1"))).valid
    assert (await limit(request("good", "192.0.2.0:1"))).valid


async def test_addresses_that_have_not_failed_are_not_kept() -> None:
    limit = RateLimit(KEYS, clock=ManualClock().time)
    for key in ("good", None):
        await limit(request(key))
    assert vars(limit)["_records"] == {}


@given(
    st.integers(1, 5),
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(0, 50), st.booleans()), max_size=40),
)
async def test_never_more_failures_than_the_allowance_in_any_time(
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


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("192.0.2.1:5000", "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:5000", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:ffff::]:1", "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.1]:5000", "192.0.2.1"),
        ("[fe80::1%eth0]:5000", "fe80::/64"),
        ("", ""),
    ],
)
def test_addresses(remote: str, expected: str) -> None:
    assert client_address(Request("GET", "/", remote_address=remote)) == expected


async def test_behind_a_proxy_a_header_tells_the_address() -> None:
    def forwarded(request: Request) -> str:
        return ",".join(request.headers.get("x-forwarded-for", ())).rpartition(",")[2].strip()

    limit = RateLimit(KEYS, attempts=1, address=forwarded, clock=ManualClock().time)

    async def knock(key: str, client: str) -> Any:
        headers = {
            "authorization": (f"Bearer {key}",),
            # As some proxies do it, in a line of its own.
            "x-forwarded-for": (f"forged-{key}, x", client),
        }
        return (await limit(Request("GET", "/", headers=headers, remote_address="p:1"))).valid

    assert not await knock("bad", "192.0.2.1")
    assert not await knock("good", "192.0.2.1")
    assert await knock("good", "192.0.2.2")


def test_it_takes_tokens_in_band_if_what_it_limits_does() -> None:
    assert isinstance(RateLimit(KEYS), TokenAuthenticator)
    assert not isinstance(RateLimit(lambda _: AuthResult(True, "a")), TokenAuthenticator)


@pytest.mark.parametrize(
    "limits", [{"attempts": 0}, {"attempts": -1}, {"seconds": 0}, {"seconds": float("nan")}]
)
def test_limits_that_limit_nothing_are_refused(limits: Any) -> None:
    with pytest.raises(InvalidConfigError, match="must be above 0"):
        RateLimit(KEYS, **limits)
