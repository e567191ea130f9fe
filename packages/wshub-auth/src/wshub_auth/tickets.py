"""Tickets: single-use tokens with a lifetime of seconds, issued by a route of the application."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence

import msgspec

from wshub_auth.credentials import BearerSubprotocol, CredentialSource, QueryParameter
from wshub_auth.errors import InvalidTicketError
from wshub_auth.ticket_stores import MemoryTicketStore, TicketStore
from wshub_auth.tokens import TokenAuth
from wshub_core import JSON, AuthResult, InvalidConfigError


class _Ticket(msgspec.Struct):
    """The stored content of a ticket."""

    user_id: str
    claims: dict[str, JSON] | None
    expires_at: float | None


class TicketAuth(TokenAuth):
    """An authenticator that issues tickets and accepts each of them once.

    A route of the application authenticates the user and calls `issue`. The page then connects with
    the ticket at once. A ticket that is read later in a log or a ``Referer`` header is useless,
    because it has been redeemed or has expired.

    Args:
        lifetime: Time in which a ticket can be redeemed, in seconds.
        store: The store of the tickets; None for a store in the memory of this process.
        sources: The places to search for a ticket, in order. The first place with a ticket is used.

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
        # Written with "not", so that NaN is refused, too.
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
            user_id: The user id of the connection that redeems the ticket.
            claims: The claims of that connection; they must be JSON.
            expires_at: The time at which that connection ends, as Unix time in seconds; None for
                never.

        Raises:
            TypeError: The claims cannot be encoded as JSON.
        """
        # 32 random bytes (256 bits) cannot be guessed within the lifetime.
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
    """Return the key under which the store keeps a ticket.

    The store never holds a ticket itself, so somebody who can read the store cannot redeem tickets.
    """
    return hashlib.sha256(ticket.encode()).hexdigest()
