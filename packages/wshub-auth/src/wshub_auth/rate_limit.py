"""A limit on failed authentication attempts, which makes guessing credentials impractical.

The algorithm is a token bucket for each client address: a failed attempt takes one attempt out of
the bucket, and the bucket refills at a constant rate. A bucket is stored as the time at which it is
full again, so refilling needs no timer.
"""

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable

from wshub_auth.addresses import client_address
from wshub_auth.errors import MissingCredentialError
from wshub_core import (
    Authenticator,
    AuthResult,
    InvalidConfigError,
    Request,
    TokenAuthenticator,
    TooManyAttemptsError,
    normalize_auth_result,
)

_MAX_ADDRESSES = 10_000
"""Number of addresses in the table. It bounds the memory that attackers can fill."""

_ROUNDING_TOLERANCE = 1e-6
"""Fraction of an attempt that floating-point arithmetic may lose."""


class _Bucket:
    """The token bucket of one address.

    Attributes:
        full_at: Time at which the bucket is full again; in the past if it is full.
        pending: Number of attempts in progress.
        attempt_finished: Event that is set when an attempt in progress finishes.
    """

    __slots__ = ("attempt_finished", "full_at", "pending")

    def __init__(self) -> None:
        self.full_at = 0.0
        self.pending = 0
        self.attempt_finished = asyncio.Event()


class RateLimit:
    """An authenticator that limits the failed attempts of each address.

    Every attempt costs one of the address's allowed attempts, unless the attempt succeeds or the
    request has no credential. Allowed attempts return over time. A client whose address has no
    attempts left gets status 429, even with a valid credential: otherwise the status would tell an
    attacker that a guess was right. An attempt in progress may fail, so an attempt that would
    exceed the limit in that case waits for the result.

    Behind a proxy, pass an ``address`` function that reads the header in which the proxy writes the
    client's address.

    Tokens in ``authenticate`` frames are not limited.

    Args:
        authenticator: The authenticator whose attempts are limited.
        attempts: Number of attempts that may fail at once.
        seconds: Time in which all attempts return, in seconds.
        address: Function that returns the address of a request's client.
        clock: Function that returns the time in seconds.

    Raises:
        InvalidConfigError: ``attempts`` or ``seconds`` is not above 0.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        attempts: int = 10,
        seconds: float = 60.0,
        address: Callable[[Request], str] = client_address,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Written with "not", so that NaN is refused, too.
        if not attempts > 0 or not seconds > 0:
            raise InvalidConfigError("RateLimit.attempts and RateLimit.seconds must be above 0")
        self._authenticator = authenticator
        self._attempts = attempts
        self._seconds_per_attempt = seconds / attempts
        self._address = address
        self._clock = clock
        if isinstance(authenticator, TokenAuthenticator):
            # Having this attribute makes the object a `TokenAuthenticator`, so it is set only if
            # the wrapped authenticator is one. The method is not limited: a connected client must
            # present a token of its own user, so it cannot guess its way into another account.
            self.authenticate_token = authenticator.authenticate_token
        self._buckets: dict[str, _Bucket] = {}

    async def __call__(self, request: Request) -> AuthResult:
        """Authenticate the client of a handshake request, unless its address exceeds the limit."""
        address = self._address(request)
        bucket = _Bucket()
        while True:
            # While this attempt waited, its bucket may have left the table and another may have
            # been created for the address. All attempts must count in the one in the table.
            bucket = self._buckets.setdefault(address, bucket)
            failed = max(0.0, bucket.full_at - self._clock()) / self._seconds_per_attempt
            if failed + 1 > self._attempts + _ROUNDING_TOLERANCE:
                wait = (failed + 1 - self._attempts) * self._seconds_per_attempt
                return AuthResult(False, error=TooManyAttemptsError(wait))
            # If all pending attempts fail, this one must still be within the limit.
            if failed + bucket.pending + 1 <= self._attempts + _ROUNDING_TOLERANCE:
                break
            bucket.attempt_finished.clear()
            await bucket.attempt_finished.wait()
        bucket.pending += 1
        costs_attempt = True
        try:
            result = self._authenticator(request)
            result = normalize_auth_result(
                await result if isawaitable(result) else result, time.time()
            )
            is_missing = isinstance(result.error, MissingCredentialError)
            costs_attempt = not (result.valid or is_missing)
        finally:
            # Also after an exception or a cancellation: an attempt that the client or a timeout
            # ends early counts as failed, or guesses that end early would be free.
            bucket.pending -= 1
            bucket.attempt_finished.set()
            if costs_attempt:
                full_at = max(bucket.full_at, self._clock())
                bucket.full_at = full_at + self._seconds_per_attempt
            self._store(address, bucket)
        return result

    def _store(self, address: str, bucket: _Bucket) -> None:
        """Move a bucket to the end of the table; remove full buckets and excess ones."""
        self._buckets.pop(address, None)
        if bucket.pending or bucket.full_at > self._clock():
            self._buckets[address] = bucket
        # The table is ordered by the time of the last attempt, so the first bucket is the one
        # without attempts for the longest time.
        while len(self._buckets) > _MAX_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
