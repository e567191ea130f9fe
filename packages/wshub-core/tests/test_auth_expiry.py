"""Expiry of the authentication and renewal by tokens, without sockets and waits."""

import asyncio
from collections.abc import Awaitable
from time import time
from typing import Any, cast

import pytest

from wshub_core import (
    AuthResult,
    Connection,
    Disconnect,
    DisconnectCause,
    Hub,
    HubConfig,
    Message,
    Request,
)
from wshub_core.testing import HandshakeRefusedError, ManualClock, MemoryClient, connect

HOUR = 3600.0


class Tokens:
    """An authenticator for tokens such as ``alice/60``: the user and the validity in seconds."""

    def __init__(self, is_async: bool = False) -> None:
        self.is_async = is_async
        self.claims: dict[str, Any] = {}

    def __call__(self, request: Request) -> AuthResult | Awaitable[AuthResult]:
        return self.authenticate_token(request.query)

    def authenticate_token(self, token: str) -> AuthResult | Awaitable[AuthResult]:
        if token == "raise":
            raise LookupError("no database")
        user, _, seconds = token.partition("/")
        expires_at = time() + float(seconds) if seconds else None
        result = AuthResult(bool(user), user, dict(self.claims), expires_at=expires_at)
        return asyncio.sleep(0, result) if self.is_async else result


def authenticate(token: str) -> Message:
    return Message(type="authenticate", data=token)


async def test_a_connection_ends_with_its_authentication_after_its_queued_messages() -> None:
    ends: list[Disconnect] = []
    clock = ManualClock()
    config = HubConfig(authenticator=Tokens(), on_disconnect=lambda _, end: ends.append(end))
    async with Hub(config, clock=clock) as hub:
        client = await connect(hub, query=f"alice/{HOUR}")
        other = await connect(hub, query="bob")
        clock.advance(HOUR - 5)
        assert client.close_code is None
        hub.send_event("last")
        clock.advance(6)
        assert await client.wait_closed() == 3000
        assert client.close_reason == "authentication expired"
        assert (await client.receive()).data["event"] == "last"
        await other.sync()
        assert ends == [Disconnect(DisconnectCause.AUTH_EXPIRED, 3000, "authentication expired", 0)]
        assert other.close_code is None


async def test_the_expiry_of_a_connection_that_has_left_has_no_effect() -> None:
    clock = ManualClock()
    async with Hub(HubConfig(authenticator=Tokens()), clock=clock) as hub:
        client = await connect(hub, query=f"alice/{HOUR}")
        client.close()
        clock.advance(HOUR + 1)
        assert await client.wait_closed() == 1000
        assert hub.stats().evictions == 0


async def test_an_authentication_that_has_expired_is_refused() -> None:
    errors: list[Exception | None] = []
    config = HubConfig(
        authenticator=Tokens(), on_auth_failure=lambda _, result: errors.append(result.error)
    )
    async with Hub(config) as hub:
        with pytest.raises(HandshakeRefusedError, match="401"):
            await connect(hub, query="alice/-1")
    assert [str(error) for error in errors] == ["authentication has expired"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_new_token_in_time_prolongs_the_connection(is_async: bool) -> None:
    clock = ManualClock()
    tokens = Tokens(is_async)
    async with Hub(HubConfig(authenticator=tokens), clock=clock) as hub:
        client = await connect(hub, query="alice/60")
        tokens.claims = {"role": "admin"}
        client.send(authenticate("alice/600"))
        answer = await client.receive()
        assert answer.type == "authenticated"
        assert answer.data["expiresAt"] == pytest.approx(time() + 600, abs=5)
        assert hub.connections[0].claims == {"role": "admin"}
        clock.advance(500)
        assert client.close_code is None
        client.send(authenticate("alice"))
        assert (await client.receive()).data == {"expiresAt": None}
        clock.advance(HOUR)
        assert client.close_code is None


@pytest.mark.parametrize("token", ["bob/600", "", "raise", "alice/-1"])
async def test_a_refused_token_changes_nothing(token: str) -> None:
    clock = ManualClock()
    async with Hub(HubConfig(authenticator=Tokens()), clock=clock) as hub:
        client = await connect(hub, query="alice/60")
        client.send(authenticate(token))
        answer = await client.receive()
        assert (answer.type, answer.data) == ("error", "Authenticate: token refused")
        client.subscribe("a")
        await client.sync()
        assert hub.connections[0].user_id == "alice"
        assert hub.channels == ("a",)
        clock.advance(61)
        assert await client.wait_closed() == 3000


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_new_token_ends_subscriptions_that_it_does_not_allow(is_async: bool) -> None:
    def authorize(connection: Connection, channel: str) -> bool | Awaitable[bool]:
        allowed = channel in (connection.claims or {})["channels"]
        return asyncio.sleep(0, allowed) if is_async else allowed

    tokens = Tokens()
    tokens.claims = {"channels": ["a", "b", "c"]}
    config = HubConfig(authenticator=tokens, channel_authorizer=authorize)
    async with Hub(config) as hub:
        client = await connect(hub, query="alice")
        for channel in "abc":
            client.subscribe(channel)
        await client.sync()
        tokens.claims = {"channels": ["b"]}
        client.send(authenticate("alice"))
        for channel in "ac":
            answer = await client.receive()
            assert (answer.type, answer.channel) == ("error", channel)
            assert answer.data == "Subscribe: subscription unauthorised"
        assert (await client.receive()).type == "authenticated"
        assert hub.connections[0].subscriptions == ("b",)


async def test_a_token_with_an_invalid_expiry_is_refused() -> None:
    class Odd(Tokens):
        def authenticate_token(self, token: str) -> AuthResult:
            return AuthResult(True, "alice", expires_at=cast(float, 10**400 if token else None))

    async with Hub(HubConfig(authenticator=Odd())) as hub:
        with pytest.raises(HandshakeRefusedError, match="401"):
            await connect(hub, query="x")
        client = await connect(hub)
        client.send(authenticate("x"))
        assert (await client.receive()).data == "Authenticate: token refused"
        await client.sync()
        assert hub.stats().clients == 1


async def test_a_token_for_a_connection_that_ends_meanwhile_has_no_effect() -> None:
    gate = asyncio.Event()

    class Slow(Tokens):
        async def wait(self) -> AuthResult:
            await gate.wait()
            return AuthResult(True, "alice", expires_at=time() + 60)

        def authenticate_token(self, token: str) -> AuthResult | Awaitable[AuthResult]:
            return self.wait() if token == "slow" else AuthResult(True, token)

    clock = ManualClock()
    async with Hub(HubConfig(authenticator=Slow()), clock=clock) as hub:
        client = await connect(hub, query="alice")
        client.send(authenticate("slow"))
        await asyncio.sleep(0)
        await hub.connections[0].close(4001, "logged out")
        gate.set()
        assert await client.wait_closed() == 4001
    clock.advance(HOUR)
    assert client.close_code == 4001


@pytest.mark.parametrize("authenticator", [lambda _: AuthResult(True, "alice"), None])
async def test_without_a_token_authenticator_the_application_gets_the_message(
    authenticator: Any,
) -> None:
    heard: list[Message] = []
    config = HubConfig(
        authenticator=authenticator, on_message=lambda _, message: heard.append(message)
    )
    async with Hub(config) as hub:
        client: MemoryClient = await connect(hub)
        client.send(authenticate("alice"))
        await client.sync()
    assert heard == [authenticate("alice")]
