"""The public keys of an identity provider, fetched and kept up to date (RFC 7517)."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import msgspec

from wshub_auth.errors import InvalidTokenError, KeysUnavailableError
from wshub_core import InvalidConfigError
from wshub_core.logs import get_logger

logger = get_logger("wshub.auth")

_FRESH_SECONDS = 300.0
"""How old keys may be before they are fetched again, beside the work."""

_USABLE_SECONDS = 3_600.0
"""How old keys may be before nobody is let in with them any more."""

_PAUSE_SECONDS = 10.0
"""How long after a fetch no other begins, whatever tokens come and however it went."""

_MOST_BYTES = 1_048_576

_SHORTEST_RSA = 2_048
"""Bits."""


def check_key(key: object) -> None:
    """Check what the library leaves to its users.

    Raises:
        ValueError: It is a private key, or too short for anybody's safety (RFC 7518 section 3.3).
    """
    if hasattr(key, "private_bytes"):
        raise ValueError("it is a private key, and only the public one is needed")
    if getattr(key, "key_size", _SHORTEST_RSA) < _SHORTEST_RSA and hasattr(key, "encrypt"):
        raise ValueError(f"it has less than {_SHORTEST_RSA} bits")


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


class JWKS:
    """The keys at an address, fetched when they are needed.

    Keys are fetched again when they are five minutes old, and when a token names a key that is not
    among them; at most once in ten seconds, however many tokens wait for it. If that fails, the old
    ones serve for an hour.

    Args:
        url: The address of the key set, ``https`` unless it is on this machine.
        timeout: How long a fetch may take, in seconds.
        clock: Tells the time in seconds.

    Raises:
        InvalidConfigError: The address is not ``https``, and not on this machine either.
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
                f"JWKS.url must be an https address, not {url!r}: "
                "whoever can change the answer can make tokens"
            )
        self._url = url
        # What is to come from this machine must not come through a proxy.
        self._uses_environment = not is_local
        self._timeout = timeout
        # Here, because reading all certificates takes a while, and later that would hold the loop.
        self._tls = httpx.create_ssl_context()
        self._clock = clock
        self._keys: list[dict[str, Any]] = []
        self._parsed: dict[tuple[str | None, str], jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._has_failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        """Return the key that a token names.

        Args:
            kid: What the token calls its key; None if it does not say, which will do if there is
                only one key for the algorithm.
            algorithm: The algorithm that the key is for.

        Raises:
            InvalidTokenError: There is no such key.
            KeysUnavailableError: The keys cannot be fetched.
        """
        key = self._get(kid, algorithm)
        if key is None or self._age() >= _USABLE_SECONDS:
            await self._wait_for_fetch()
            key = self._get(kid, algorithm)
        elif self._age() >= _FRESH_SECONDS:
            self._start_fetch()
        if self._age() >= _USABLE_SECONDS or (key is None and self._has_failed):
            raise KeysUnavailableError(self._pause_left())
        if key is None:
            raise InvalidTokenError("its key is unknown")
        return key

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _pause_left(self) -> float:
        if self._tried_at is None:
            return 0.0
        return max(0.0, self._tried_at + _PAUSE_SECONDS - self._clock())

    def _get(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        if (kid, algorithm) not in self._parsed:
            keys = [each for each in self._keys if _fits(each, kid, algorithm)]
            if len(keys) != 1:
                return None
            try:
                key = jwt.PyJWK(keys[0], algorithm)
                check_key(key.key)
                self._parsed[kid, algorithm] = key
            except (jwt.PyJWTError, ValueError, TypeError) as error:
                logger.warning("%s has an unusable key %r: %s", self._url, kid, error)
                return None
        return self._parsed[kid, algorithm]

    async def _wait_for_fetch(self) -> None:
        self._start_fetch()
        if self._fetching is not None:
            # It is for all who wait, and goes on if one of them does not any more.
            await asyncio.shield(self._fetching)

    def _start_fetch(self) -> None:
        if self._fetching is None and self._pause_left() == 0:
            self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                self._keys = await self._read()
            self._parsed.clear()
            self._fetched_at = self._clock()
            self._has_failed = False
        except (httpx.HTTPError, OSError, ValueError, RecursionError) as error:
            logger.warning("cannot fetch keys from %s: %r", self._url, error)
            self._has_failed = True
        finally:
            self._tried_at = self._clock()
            self._fetching = None

    async def _read(self) -> list[dict[str, Any]]:
        async with (
            httpx.AsyncClient(
                timeout=self._timeout, verify=self._tls, trust_env=self._uses_environment
            ) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"status {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise ValueError(f"more than {_MOST_BYTES} bytes")
        return msgspec.json.decode(body, type=_KeySet).keys


def _fits(key: dict[str, Any], kid: str | None, algorithm: str) -> bool:
    return (
        (kid is None or key.get("kid") == kid)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and key.get("kty") == _KEY_TYPES.get(algorithm[:2])
    )


_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""By how an algorithm's name begins: the type of its keys (RFC 7518 section 6.1, RFC 8037)."""
