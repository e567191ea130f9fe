"""A limit on failed attempts, so that guessing takes for ever."""

import ipaddress
import time
from collections.abc import Callable
from inspect import isawaitable

from wshub_auth.errors import KeysUnavailableError, MissingCredentialError
from wshub_core import (
    Authenticator,
    AuthenticatorError,
    AuthResult,
    Request,
    TokenAuthenticator,
    TooManyAttemptsError,
    settle_auth_result,
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


class RateLimit:
    """Limits the failed attempts of each address.

    Every failed attempt takes one from the address's allowance, which comes back over time. While
    there is nothing left, clients of that address get 429, with a right credential too; otherwise
    guessing would go on. Requests without a credential and faults on this side cost nothing.

    Behind a proxy, give an ``address`` that reads the header where the proxy writes the client's.

    Args:
        authenticator: Who is asked.
        attempts: How many attempts may fail at once.
        seconds: In what time a whole allowance comes back.
        address: Tells what counts as one address.
        clock: Tells the time in seconds.
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
        self._authenticator = authenticator
        self._attempts = attempts
        self._seconds_per_attempt = seconds / attempts
        self._address = address
        self._clock = clock
        if isinstance(authenticator, TokenAuthenticator):
            # Only then is this one too. A client that is connected guesses nothing but its own.
            self.authenticate_token = authenticator.authenticate_token
        # By address: when its allowance is whole again.
        self._whole_at: dict[str, float] = {}

    async def __call__(self, request: Request) -> AuthResult:
        """Tell who a client is, unless its address has failed too often."""
        address = self._address(request)
        wait = self._take(address)
        if wait > 0:
            return AuthResult(False, error=TooManyAttemptsError(wait))
        has_failed = False
        try:
            result = self._authenticator(request)
            result = settle_auth_result(await result if isawaitable(result) else result)
            has_failed = not result.valid and not isinstance(
                result.error, MissingCredentialError | KeysUnavailableError | AuthenticatorError
            )
        finally:
            if not has_failed:
                self._give_back(address)
        return result

    def _take(self, address: str) -> float:
        """Take one attempt, before it is known how it ends; return how long there is none left."""
        now = self._clock()
        whole_at = max(self._whole_at.pop(address, now), now)
        wait = (whole_at - now) - (self._attempts - 1) * self._seconds_per_attempt
        if wait <= _ROUNDING:
            wait = 0.0
            whole_at += self._seconds_per_attempt
        self._whole_at[address] = whole_at
        # Those in front have been quiet for longest.
        while len(self._whole_at) > _MOST_ADDRESSES:
            del self._whole_at[next(iter(self._whole_at))]
        return wait

    def _give_back(self, address: str) -> None:
        whole_at = self._whole_at.get(address, 0.0) - self._seconds_per_attempt
        if whole_at > self._clock():
            self._whole_at[address] = whole_at
        else:
            self._whole_at.pop(address, None)
