"""A limit on failed attempts, so that guessing takes for ever."""

import asyncio
import ipaddress
import time
from collections.abc import Callable
from inspect import isawaitable

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

_MOST_ADDRESSES = 10_000

_ROUNDING = 1e-6


def client_address(request: Request) -> str:
    """Return the host that a request comes from; of IPv6 the /64, which one customer has whole.

    All clients of a unix socket have the address "", and all behind a proxy have the proxy's.
    """
    host = request.remote_address.rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


class _Record:
    """What is known of one address.

    Attributes:
        whole_at: When its allowance is whole again.
        pending: How many attempts are being judged.
        settled: Set when one of them has been.
    """

    __slots__ = ("pending", "settled", "whole_at")

    def __init__(self) -> None:
        self.whole_at = 0.0
        self.pending = 0
        self.settled = asyncio.Event()


class RateLimit:
    """Limits the failed attempts of each address.

    Every attempt takes one from the address's allowance, unless it succeeds or brings no credential
    at all; over time the allowance comes back. While there is nothing left, clients of that address
    get 429, with a right credential too; otherwise guessing would go on. Attempts that are still
    being judged may all fail, so others wait until that is known.

    Behind a proxy, give an ``address`` that reads the header where the proxy writes the client's.

    Args:
        authenticator: Who is asked.
        attempts: How many attempts may fail at once.
        seconds: In what time a whole allowance comes back.
        address: Tells what counts as one address.
        clock: Tells the time in seconds.

    Raises:
        InvalidConfigError: A number is not above 0.
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
        if not attempts > 0 or not seconds > 0:
            raise InvalidConfigError("RateLimit.attempts and RateLimit.seconds must be above 0")
        self._authenticator = authenticator
        self._attempts = attempts
        self._seconds_per_attempt = seconds / attempts
        self._address = address
        self._clock = clock
        if isinstance(authenticator, TokenAuthenticator):
            # Only then is this one too. A client that is connected guesses nothing but its own.
            self.authenticate_token = authenticator.authenticate_token
        self._records: dict[str, _Record] = {}

    async def __call__(self, request: Request) -> AuthResult:
        """Tell who a client is, unless its address has failed too often."""
        address = self._address(request)
        record = _Record()
        while True:
            # What others know of the address by now.
            record = self._records.setdefault(address, record)
            failed = max(0.0, record.whole_at - self._clock()) / self._seconds_per_attempt
            if failed + 1 > self._attempts + _ROUNDING:
                wait = (failed + 1 - self._attempts) * self._seconds_per_attempt
                return AuthResult(False, error=TooManyAttemptsError(wait))
            if failed + record.pending + 1 <= self._attempts + _ROUNDING:
                break
            record.settled.clear()
            await record.settled.wait()
        record.pending += 1
        is_free = False
        try:
            result = self._authenticator(request)
            result = normalize_auth_result(
                await result if isawaitable(result) else result, time.time()
            )
            is_free = result.valid or isinstance(result.error, MissingCredentialError)
        finally:
            record.pending -= 1
            record.settled.set()
            if not is_free:
                whole_at = max(record.whole_at, self._clock())
                record.whole_at = whole_at + self._seconds_per_attempt
            self._keep(address, record)
        return result

    def _keep(self, address: str, record: _Record) -> None:
        """Keep what is worth it, and not more than memory."""
        self._records.pop(address, None)
        if record.pending or record.whole_at > self._clock():
            self._records[address] = record
        # Those in front have been quiet for longest.
        while len(self._records) > _MOST_ADDRESSES:
            del self._records[next(iter(self._records))]
