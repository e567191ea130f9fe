"""Tickets, and the store in memory."""

import hashlib
from collections.abc import Awaitable
from typing import Any

import pytest

from wshub_auth import MemoryTicketStore, TicketAuth
from wshub_core import AuthResult, InvalidConfigError, Request
from wshub_core.testing import ManualClock


async def redeem(tickets: TicketAuth, ticket: str) -> AuthResult:
    result = tickets(Request("GET", "/ws", f"ticket={ticket}"))
    assert isinstance(result, Awaitable)
    return await result


async def test_a_ticket_is_accepted_once() -> None:
    tickets = TicketAuth()
    ticket = await tickets.issue("alice", {"roles": ["admin"]}, expires_at=4e9)
    accepted = await redeem(tickets, ticket)
    assert (accepted.user_id, accepted.claims, accepted.expires_at) == (
        "alice",
        {"roles": ("admin",)},
        4e9,
    )
    again = await redeem(tickets, ticket)
    assert (again.valid, str(again.error)) == (False, "invalid ticket")
    assert not (await redeem(tickets, "never-issued")).valid


async def test_a_ticket_is_read_from_the_subprotocols_too() -> None:
    tickets = TicketAuth()
    ticket = await tickets.issue("alice")
    result = tickets(
        Request("GET", "/", headers={"sec-websocket-protocol": (f"wshub.bearer, {ticket}",)})
    )
    assert isinstance(result, Awaitable)
    assert (await result).user_id == "alice"


async def test_tickets_are_unique_and_have_at_least_43_characters() -> None:
    tickets = TicketAuth()
    issued = {await tickets.issue("alice") for _ in range(100)}
    assert len(issued) == 100
    assert all(len(ticket) >= 43 for ticket in issued)


async def test_a_ticket_expires_after_its_lifetime() -> None:
    clock = ManualClock()
    tickets = TicketAuth(lifetime=30, store=MemoryTicketStore(clock.time))
    early, late = await tickets.issue("alice"), await tickets.issue("bob")
    clock.advance(29.9)
    assert (await redeem(tickets, early)).valid
    clock.advance(0.2)
    assert str((await redeem(tickets, late)).error) == "invalid ticket"


async def test_expired_tickets_are_removed_from_memory() -> None:
    clock = ManualClock()
    store = MemoryTicketStore(clock.time)
    tickets = TicketAuth(lifetime=30, store=store)
    for _ in range(10):
        await tickets.issue("alice")
    clock.advance(31)
    await tickets.issue("bob")
    assert len(vars(store)["_values"]) == 1


async def test_the_oldest_ticket_is_dropped_if_memory_is_full(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wshub_auth.ticket_stores._MAX_TICKETS", 3)
    tickets = TicketAuth()
    issued = [await tickets.issue(f"user-{number}") for number in range(4)]
    assert not (await redeem(tickets, issued[0])).valid
    assert [(await redeem(tickets, each)).user_id for each in issued[1:]] == [
        "user-1",
        "user-2",
        "user-3",
    ]
    assert "more than 3 unredeemed tickets" in caplog.text


async def test_a_shared_store_receives_digests_and_the_lifetime() -> None:
    class SharedStore(dict[str, bytes]):
        async def put(self, key: str, value: bytes, seconds: float) -> None:
            assert seconds == 20
            self[key] = value

        async def take(self, key: str) -> bytes | None:
            return self.pop(key, None)

    store = SharedStore()
    issuing, redeeming = TicketAuth(lifetime=20, store=store), TicketAuth(store=store)
    ticket = await issuing.issue("alice", {"a": None})
    assert list(store) == [hashlib.sha256(ticket.encode()).hexdigest()]
    assert ticket.encode() not in store[next(iter(store))]
    accepted = await redeem(redeeming, ticket)
    assert (accepted.user_id, accepted.claims) == ("alice", {"a": None})
    assert store == {}


@pytest.mark.parametrize("claims", [{"f": print}, {"o": object()}])
async def test_claims_that_are_not_json_raise_type_error(claims: Any) -> None:
    with pytest.raises(TypeError):
        await TicketAuth().issue("alice", claims)


@pytest.mark.parametrize("lifetime", [0, -1, float("nan")])
def test_the_lifetime_must_be_above_0(lifetime: float) -> None:
    with pytest.raises(InvalidConfigError, match="lifetime must be above 0"):
        TicketAuth(lifetime=lifetime)
