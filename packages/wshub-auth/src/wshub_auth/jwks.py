"""The key set of an identity provider (RFC 7517), fetched over HTTP and cached.

Two problems shape the cache. The provider replaces its keys from time to time, so tokens may name
keys that the cache does not have. But anybody can invent such names, so a flood of tokens must not
become a flood of requests to the provider.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import msgspec

from wshub_auth.errors import InvalidTokenError, KeysUnavailableError
from wshub_auth.jwt_keys import check_public_key
from wshub_core import InvalidConfigError
from wshub_core.logs import get_logger

logger = get_logger("wshub.auth")

_REFRESH_SECONDS = 300.0
"""Age of the keys from which they are fetched again in the background, while they stay in use."""

_MAX_AGE_SECONDS = 3_600.0
"""Age from which the keys are not used any more.

It bounds the time for which a key that the provider has withdrawn is still accepted."""

_FETCH_INTERVAL_SECONDS = 10.0
"""Minimum time between the end of a fetch and the next fetch, successful or not."""

_MAX_RESPONSE_BYTES = 1_048_576

_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""Key type by the first two letters of the algorithm (RFC 7518 section 6.1, RFC 8037)."""


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


class JWKS:
    """The public keys at a URL, fetched on demand and cached.

    The first token starts the first fetch. A background fetch follows when the keys are five
    minutes old. A token with an unknown key id starts a fetch, too. Between two fetches there are
    at least ten seconds, and tokens that arrive during a fetch wait for it. While fetches fail,
    the cached keys are used until they are one hour old.

    Args:
        url: The URL of the key set. It must be ``https``, except on this machine.
        timeout: Timeout of a fetch, in seconds.
        clock: Function that returns the time in seconds.

    Raises:
        InvalidConfigError: The URL is neither ``https`` nor on this machine.
    """

    def __init__(
        self, url: str, *, timeout: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        try:
            parts = httpx.URL(url)
            is_local = parts.scheme == "http" and parts.host in ("localhost", "127.0.0.1", "::1")
            is_safe = bool(parts.host) and (parts.scheme == "https" or is_local)
        except (httpx.InvalidURL, ValueError):
            is_safe = is_local = False
        if not is_safe:
            raise InvalidConfigError(
                f"JWKS.url must be an https URL, not {url!r}: "
                "an attacker who changes the response can forge tokens"
            )
        self._url = url
        # Requests to this machine must not go through a proxy named in HTTP_PROXY: the proxy could
        # replace the keys.
        self._uses_environment = not is_local
        self._timeout = timeout
        # Loading all certificates takes tens of milliseconds. Doing it in the first fetch would
        # block the event loop for that time.
        self._tls = httpx.create_ssl_context()
        self._clock = clock
        self._keys: list[dict[str, Any]] = []
        # Parsed keys by key id and algorithm. Only usable keys are in the cache, so invented key
        # ids do not fill it.
        self._parsed: dict[tuple[str | None, str], jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._has_failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        """Return the key that verifies a token.

        Args:
            kid: The key id in the token's header. None if the header has none; the key set must
                then contain exactly one key for the algorithm.
            algorithm: The algorithm in the token's header.

        Raises:
            InvalidTokenError: The key set has no such key.
            KeysUnavailableError: The keys cannot be fetched.
        """
        key = self._get_known_key(kid, algorithm)
        if key is None or self._age() >= _MAX_AGE_SECONDS:
            await self._wait_for_fetch()
            key = self._get_known_key(kid, algorithm)
        elif self._age() >= _REFRESH_SECONDS:
            self._start_fetch()
        # If the last fetch failed, the provider may have the key. The token is then not at fault.
        if self._age() >= _MAX_AGE_SECONDS or (key is None and self._has_failed):
            raise KeysUnavailableError(self._seconds_until_next_fetch())
        if key is None:
            raise InvalidTokenError("the key is unknown")
        return key

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _seconds_until_next_fetch(self) -> float:
        if self._tried_at is None:
            return 0.0
        return max(0.0, self._tried_at + _FETCH_INTERVAL_SECONDS - self._clock())

    def _get_known_key(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        if (kid, algorithm) not in self._parsed:
            keys = [each for each in self._keys if _matches(each, kid, algorithm)]
            # If several keys match, none of them is chosen.
            if len(keys) != 1:
                return None
            try:
                key = jwt.PyJWK(keys[0], algorithm)
                check_public_key(key.key)
                self._parsed[kid, algorithm] = key
            except (jwt.PyJWTError, ValueError, TypeError) as error:
                logger.warning("unusable key %r in the key set at %s: %s", kid, self._url, error)
                return None
        return self._parsed[kid, algorithm]

    async def _wait_for_fetch(self) -> None:
        self._start_fetch()
        if self._fetching is not None:
            # All waiting clients share the fetch. The shield keeps it running when one of them
            # stops waiting.
            await asyncio.shield(self._fetching)

    def _start_fetch(self) -> None:
        if self._fetching is None and self._seconds_until_next_fetch() == 0:
            self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            # The timeout of httpx is per read, so a slow server could stretch the response over any
            # time. This one is for the whole response.
            async with asyncio.timeout(self._timeout):
                self._keys = await self._read_key_set()
            self._parsed.clear()
            self._fetched_at = self._clock()
            self._has_failed = False
        except (httpx.HTTPError, OSError, ValueError, RecursionError) as error:
            # The old keys stay in place until they are too old.
            logger.warning("cannot fetch the key set at %s: %r", self._url, error)
            self._has_failed = True
        finally:
            self._tried_at = self._clock()
            self._fetching = None

    async def _read_key_set(self) -> list[dict[str, Any]]:
        # httpx does not follow redirects by default, so the keys come from the configured URL only.
        async with (
            httpx.AsyncClient(
                timeout=self._timeout, verify=self._tls, trust_env=self._uses_environment
            ) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"status {response.status_code}")
            # Read in chunks, because a `Content-Length` may be absent or wrong.
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_RESPONSE_BYTES:
                    raise ValueError(f"more than {_MAX_RESPONSE_BYTES} bytes")
        return msgspec.json.decode(body, type=_KeySet).keys


def _matches(key: dict[str, Any], kid: str | None, algorithm: str) -> bool:
    """Return whether a key of the set is the key of a token (RFC 7517 section 4)."""
    return (
        (kid is None or key.get("kid") == kid)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        # The type must fit as well: a set could contain a symmetric key ("oct").
        and key.get("kty") == _KEY_TYPES.get(algorithm[:2])
    )
