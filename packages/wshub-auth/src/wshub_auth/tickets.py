"""Tickets: tokens for one connection, within seconds, that your own HTTP route hands out."""

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from wshub_auth.credentials import BearerSubprotocol, CredentialSource, QueryParameter
from wshub_auth.errors import InvalidTicketError
from wshub_auth.tokens import TokenAuth
from wshub_core import JSON, AuthResult, InvalidConfigError
from wshub_core.logs import get_logger

logger = get_logger("wshub.auth")

_MOST_TICKETS = 100_000


class TicketStore(Protocol):
    """Keeps tickets until they are redeemed; with several processes, one that they share."""

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for some seconds."""

    async def take(self, key: str) -> bytes | None:
        """Remove a value and return it, to one caller only; None if it is not there any more."""


class MemoryTicketStore:
    """Keeps tickets in this process; with 100,000 that nobody has redeemed, the oldest go.

    Args:
        clock: Tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._values: dict[str, tuple[bytes, float]] = {}

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for some seconds."""
        now = self._clock()
        self._values[key] = value, now + seconds
        # Those in front are the oldest, and usually the first that are due.
        while self._values and next(iter(self._values.values()))[1] <= now:
            del self._values[next(iter(self._values))]
        if len(self._values) > _MOST_TICKETS:
            logger.warning("more than %d tickets wait, dropping the oldest", _MOST_TICKETS)
            del self._values[next(iter(self._values))]

    async def take(self, key: str) -> bytes | None:
        """Remove a value and return it; None if it is not there any more."""
        value, due = self._values.pop(key, (None, 0.0))
        return value if self._clock() < due else None


class _Ticket(msgspec.Struct):
    user_id: str
    claims: dict[str, JSON] | None
    expires_at: float | None


class TicketAuth(TokenAuth):
    """Hands out tickets and accepts each of them once.

    A route of your application that knows its user calls `issue`; the page connects with the
    ticket at once. What a log or a referrer keeps of it is of no use to anybody.

    Args:
        lifetime: How long a ticket can be redeemed, in seconds.
        store: Where tickets wait; None for this process's memory.
        sources: Where to look for a ticket; the first place that has one counts.

    Raises:
        InvalidConfigError: The lifetime is not above 0.
    """

    def __init__(
        self,
        *,
        lifetime: float = 30.0,
        store: TicketStore | None = None,
        sources: Sequence[CredentialSource] = (QueryParameter("ticket"), BearerSubprotocol()),
    ) -> None:
        super().__init__(self._redeem, *sources)
        if not lifetime > 0:
            raise InvalidConfigError(f"TicketAuth.lifetime must be above 0, not {lifetime}")
        self._lifetime = lifetime
        self._store: TicketStore = MemoryTicketStore() if store is None else store

    async def issue(
        self,
        user_id: str,
        claims: Mapping[str, JSON] | None = None,
        *,
        expires_at: float | None = None,
    ) -> str:
        """Return a new ticket.

        Args:
            user_id: Who will be connected with it.
            claims: The claims of that connection; they must be JSON.
            expires_at: When that connection ends, as Unix time; None for never.

        Raises:
            TypeError: The claims are no JSON.
        """
        ticket = secrets.token_urlsafe(32)
        content = _Ticket(user_id, None if claims is None else dict(claims), expires_at)
        await self._store.put(_digest(ticket), msgspec.json.encode(content), self._lifetime)
        return ticket

    async def _redeem(self, ticket: str) -> AuthResult:
        value = await self._store.take(_digest(ticket))
        if value is None:
            return AuthResult(False, error=InvalidTicketError())
        content = msgspec.json.decode(value, type=_Ticket)
        return AuthResult(True, content.user_id, content.claims, expires_at=content.expires_at)


def _digest(ticket: str) -> str:
    """Return what the store knows a ticket by; who reads the store cannot connect with it."""
    return hashlib.sha256(ticket.encode()).hexdigest()
