"""The cache of a key set, against an HTTP server on this machine: up, down, slow, or faulty."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from support import eventually

from wshub_auth import InvalidTokenError, KeysUnavailableError
from wshub_auth.jwt import JWKS, JWTAuth
from wshub_core import AuthResult, InvalidConfigError
from wshub_core.testing import ManualClock

KEYS = {
    name: rsa.generate_private_key(public_exponent=65_537, key_size=2_048) for name in ("a", "b")
}
CURVE = ec.generate_private_key(ec.SECP256R1())


def public(kid: str | None, key: Any = None, **others: Any) -> dict[str, Any]:
    """Return the public key as an entry of a key set."""
    private = key or KEYS[kid or "a"]
    algorithm = jwt.get_algorithm_by_name("ES256" if private is CURVE else "RS256")
    described: dict[str, Any] = algorithm.to_jwk(private.public_key(), as_dict=True)
    return described | ({} if kid is None else {"kid": kid}) | others


def token(kid: str | None = "a", alg: str = "RS256", key: Any = None) -> str:
    headers = {} if kid is None else {"kid": kid}
    claims = {"sub": "alice", "exp": time.time() + 7_200}
    return jwt.encode(claims, key or KEYS[kid or "a"], alg, headers=headers)


class Provider:
    """An identity provider's HTTP server."""

    def __init__(self) -> None:
        self.keys: list[Any] = [public("a")]
        self.body: bytes | None = None
        self.status = b"200 OK"
        self.gate: asyncio.Event | None = None
        self.requests = 0
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            if self.gate is not None:
                await self.gate.wait()
            body = self.body if self.body is not None else json.dumps({"keys": self.keys}).encode()
            head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nLocation: /\r\n\r\n"
            writer.write(head % (self.status, len(body)) + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(provider: Provider) -> AsyncIterator[Provider]:
    server = await asyncio.start_server(provider.answer, "127.0.0.1", 0)
    async with server:
        provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
        yield provider


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running(Provider()) as provider:
        yield provider


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def auth(provider: Provider, clock: ManualClock, **options: Any) -> JWTAuth:
    algorithms = options.pop("algorithms", ["RS256"])
    return JWTAuth(JWKS(provider.url, clock=clock.time, **options), algorithms=algorithms)


async def authenticate(auth: JWTAuth, presented: str) -> AuthResult:
    result = auth.authenticate_token(presented)
    return await result if isinstance(result, Awaitable) else result


async def test_keys_are_fetched_once_and_cached(provider: Provider, clock: ManualClock) -> None:
    checked = auth(provider, clock)
    assert provider.requests == 0
    for _ in range(3):
        assert (await authenticate(checked, token())).user_id == "alice"
        clock.advance(90)
    assert provider.requests == 1


async def test_concurrent_tokens_share_one_fetch(provider: Provider, clock: ManualClock) -> None:
    provider.gate = asyncio.Event()
    checked = auth(provider, clock)
    waiting = [asyncio.create_task(authenticate(checked, token())) for _ in range(50)]
    cancelled = asyncio.create_task(authenticate(checked, token()))
    await eventually(lambda: provider.requests == 1)
    cancelled.cancel()
    await asyncio.sleep(0)
    provider.gate.set()
    assert all([(await each).valid for each in waiting])
    assert provider.requests == 1


async def test_an_unknown_key_id_starts_a_fetch(provider: Provider, clock: ManualClock) -> None:
    checked = auth(provider, clock)
    assert (await authenticate(checked, token("a"))).valid
    provider.keys = [public("a"), public("b")]
    # The minimum time between two fetches has not passed.
    assert isinstance((await authenticate(checked, token("b"))).error, InvalidTokenError)
    clock.advance(10.1)
    assert (await authenticate(checked, token("b"))).valid
    assert (await authenticate(checked, token("a"))).valid
    assert provider.requests == 2


async def test_unknown_key_ids_cause_at_most_one_request_in_ten_seconds(
    provider: Provider, clock: ManualClock
) -> None:
    checked = auth(provider, clock)
    for _ in range(3):
        results = [
            await authenticate(checked, token(f"unknown-{number}", key=KEYS["b"]))
            for number in range(30)
        ]
        assert {str(each.error) for each in results} == {"invalid token: the key is unknown"}
        assert (await authenticate(checked, token())).valid
        clock.advance(10.1)
    assert provider.requests == 3


async def test_old_keys_stay_in_use_during_the_background_fetch(
    provider: Provider, clock: ManualClock
) -> None:
    checked = auth(provider, clock)
    assert (await authenticate(checked, token("a"))).valid
    provider.keys = [public("b")]
    provider.gate = asyncio.Event()
    clock.advance(301)
    # The provider has not answered yet, so the old key is still in use.
    assert (await authenticate(checked, token("a"))).valid
    provider.gate.set()
    assert (await authenticate(checked, token("b"))).valid
    assert provider.requests == 2
    refused = await authenticate(checked, token("a"))
    assert str(refused.error) == "invalid token: the key is unknown"


async def test_cached_keys_are_used_for_an_hour_if_the_provider_fails(
    provider: Provider, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    checked = auth(provider, clock)
    assert (await authenticate(checked, token())).valid
    provider.status = b"503 Service Unavailable"
    clock.advance(3_000)
    assert (await authenticate(checked, token())).valid
    await eventually(lambda: "status 503" in caplog.text)
    clock.advance(590)
    assert (await authenticate(checked, token())).valid
    clock.advance(20)
    refused = await authenticate(checked, token())
    assert isinstance(refused.error, KeysUnavailableError)
    provider.status = b"200 OK"
    clock.advance(10.1)
    assert (await authenticate(checked, token())).valid


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (b"500 Internal Server Error", None),
        (b"404 Not Found", None),
        (b"302 Found", None),
        (b"200 OK", b""),
        (b"200 OK", b"nonsense"),
        (b"200 OK", b"[]"),
        (b"200 OK", b"{}"),
        (b"200 OK", b'{"keys":{}}'),
        (b"200 OK", b'{"keys":["a"]}'),
        (b"200 OK", b"[" * 100_000),
        (b"200 OK", b'{"keys":[]}' + b" " * 2_000_000),
        (b"200 OK", b"\xff\xfe"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_faulty_response_refuses_tokens_with_a_retry_time(
    provider: Provider, clock: ManualClock, status: bytes, body: bytes | None
) -> None:
    provider.status, provider.body = status, body
    checked = auth(provider, clock)
    for _ in range(3):
        refused = await authenticate(checked, token())
        assert isinstance(refused.error, KeysUnavailableError)
        assert refused.error.retry_after == pytest.approx(10, abs=1)
        assert refused.challenge == "Bearer"
    assert provider.requests == 1
    provider.status, provider.body = b"200 OK", None
    clock.advance(10.1)
    assert (await authenticate(checked, token())).valid


async def test_a_provider_that_is_down_makes_keys_unavailable(clock: ManualClock) -> None:
    async with running(Provider()) as provider:
        pass
    refused = await authenticate(auth(provider, clock), token())
    assert isinstance(refused.error, KeysUnavailableError)


@pytest.mark.parametrize("drips", [False, True])
async def test_the_timeout_covers_the_whole_response(clock: ManualClock, drips: bool) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            # Every read succeeds quickly, but the response never ends.
            while drips:
                writer.write(b"X: y\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        keys = JWKS(f"http://127.0.0.1:{port}/", timeout=0.2, clock=clock.time)
        refused = await authenticate(JWTAuth(keys, algorithms=["RS256"]), token())
        assert isinstance(refused.error, KeysUnavailableError)


@pytest.mark.parametrize(
    ("keys", "presented", "is_valid"),
    [
        # Without a key id, the only key is used.
        ([public("a")], token(None), True),
        ([public(None)], token(None), True),
        ([public("a"), public("b")], token(None), False),
        ([public(None)], token("a"), False),
        # The use, the algorithm and the type of the key must fit.
        ([public("a", use="sig", alg="RS256")], token(), True),
        ([public("a", use="enc")], token(), False),
        ([public("a", alg="RS512")], token(), False),
        ([public("a", alg="RS256")], token(alg="PS256"), False),
        ([public("a", key=CURVE)], token(), False),
        ([public("a", key=CURVE)], token(key=CURVE, alg="ES256"), True),
        ([public("c", key=CURVE), public("a")], token(None), True),
        # A secret in a key set is public, so it verifies nothing.
        (
            [{"kty": "oct", "kid": "a", "k": "c2VjcmV0" * 8}],
            token("a", "HS256", b"secret" * 8),
            False,
        ),
        # Unusable keys do not affect usable keys.
        ([{"kty": "RSA", "kid": "x"}, {"kty": "??"}, {}, public("a")], token(), True),
        ([{"kty": "RSA", "kid": "a"}], token(), False),
        ([{"kty": "RSA", "kid": "a", "n": 1, "e": "??"}], token(), False),
        ([public("a"), public("a")], token(), False),
        ([public("a", key=KEYS["b"])], token(), False),
    ],
)
async def test_a_token_is_verified_only_with_the_one_matching_key(
    provider: Provider, clock: ManualClock, keys: list[Any], presented: str, is_valid: bool
) -> None:
    provider.keys = keys
    checked = auth(provider, clock, algorithms=["RS256", "PS256", "ES256"])
    result = await authenticate(checked, presented)
    assert result.valid == is_valid
    assert is_valid or isinstance(result.error, InvalidTokenError)


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/keys",
        "ftp://localhost/",
        "https:///keys",
        "keys",
        "",
        "http://localhost.x/",
        "https://x\x00y/",
        "https://[::1/",
    ],
)
def test_the_url_must_be_https_or_on_this_machine(url: str) -> None:
    with pytest.raises(InvalidConfigError, match="must be an https URL"):
        JWKS(url)


async def test_requests_to_this_machine_do_not_use_a_proxy(
    provider: Provider, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Provider()) as proxy:
        proxy.keys = [public("b")]
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        checked = auth(provider, clock)
        assert (await authenticate(checked, token("a"))).valid
        assert not (await authenticate(checked, token("b"))).valid
        assert proxy.requests == 0


async def test_an_rsa_key_that_is_too_short_is_not_used(
    provider: Provider, clock: ManualClock
) -> None:
    short = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)
    provider.keys = [public("a", key=short)]
    refused = await authenticate(auth(provider, clock), token("a"))
    assert isinstance(refused.error, InvalidTokenError)
