"""Every way to authenticate, on every way to serve, with a client that others wrote."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from asgi_servers import ASGI_SERVERS
from support import WireClient, eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wshub_auth import (
    APIKeyAuthenticator,
    BearerTokenAuth,
    CookieAuth,
    FirstOf,
    QueryTokenAuth,
    RateLimit,
    SubprotocolTokenAuth,
    TicketAuth,
    all_of,
    allow,
    allow_claimed,
)
from wshub_auth.jwt import JWTAuth
from wshub_core import AuthResult, Hub, HubConfig, Request

SECRET = "a secret of at least thirty-two bytes"


class Door:
    """A served hub, and what it said about those it did not let in."""

    def __init__(self, hub: Hub, port: int, stack: AsyncExitStack) -> None:
        self.hub = hub
        self.port = port
        self.failures: list[tuple[Request, AuthResult]] = []
        self._stack = stack

    async def enter(self, query: str = "", **options: Any) -> WireClient:
        url = f"ws://127.0.0.1:{self.port}/ws{query}"
        return WireClient(
            await self._stack.enter_async_context(
                connect(url, proxy=None, compression=None, **options)
            )
        )

    async def be_refused(self, query: str = "", **options: Any) -> tuple[int, str, str | None]:
        """Return the status, what the hub was told, and what the client is asked for."""
        before = len(self.failures)
        with pytest.raises(InvalidStatus) as raised:
            await self.enter(query, **options)
        response = raised.value.response
        assert len(self.failures) == before + 1, "on_auth_failure is called once for each refusal"
        request, result = self.failures[-1]
        assert request.remote_address.startswith("127.0.0.1:")
        return response.status_code, str(result.error), response.headers.get("WWW-Authenticate")


Serve = Callable[..., Awaitable[Door]]


@pytest.fixture(params=["native", *ASGI_SERVERS])
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def serve(authenticator: Any, **settings: Any) -> Door:
            failures: list[tuple[Request, AuthResult]] = []
            hub = Hub(
                HubConfig(
                    authenticator=authenticator,
                    on_auth_failure=lambda *failure: failures.append(failure),
                    **settings,
                )
            )
            if request.param == "native":
                await stack.enter_async_context(hub)
                server = await stack.enter_async_context(hub.serve("127.0.0.1", 0))
                port = server.port
            else:
                port = await stack.enter_async_context(ASGI_SERVERS[request.param](hub.asgi()))
            door = Door(hub, port, stack)
            door.failures = failures
            return door

        yield serve


def bearer(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


def make(**claims: Any) -> str:
    return jwt.encode({"sub": "alice", "exp": time.time() + 600, **claims}, SECRET)


def validate(token: str) -> AuthResult:
    return AuthResult(token == "good/+=%", "alice", {"roles": ["admin"]})


async def test_api_keys_of_several_users(serve: Serve) -> None:
    door = await serve(APIKeyAuthenticator({"key-1": "alice", "key-2": "bob"}))
    await door.enter(**bearer("key-1"))
    await door.enter(**bearer("key-2"))
    assert [each.user_id for each in door.hub.connections] == ["alice", "bob"]
    assert door.hub.connections[0].claims == {"auth_method": "api_key"}
    assert await door.be_refused() == (401, "missing Authorization header", "Bearer")
    assert await door.be_refused(**bearer("key-3")) == (
        401,
        "invalid API key",
        'Bearer error="invalid_token"',
    )
    two = [("Authorization", "Basic x"), ("Authorization", "Bearer key-1")]
    assert (await door.be_refused(additional_headers=two))[1] == "malformed Authorization header"
    await door.enter(additional_headers=two[::-1])
    assert [each.user_id for each in door.hub.connections] == ["alice", "alice", "bob"]


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (BearerTokenAuth, bearer("good/+=%"), bearer("bad")),
        (QueryTokenAuth, {"query": "?token=good/%2B%3D%25"}, {"query": "?token=bad"}),
        (
            SubprotocolTokenAuth,
            {"subprotocols": ["wshub.bearer", quote("good/+=%", safe="")]},
            {"subprotocols": ["wshub.bearer", "bad"]},
        ),
        (
            lambda validate: CookieAuth("session", validate),
            {"additional_headers": {"Cookie": "theme=dark; session=good/+=%"}},
            {"additional_headers": {"Cookie": "session=bad"}},
        ),
    ],
    ids=["bearer", "query", "subprotocol", "cookie"],
)
async def test_tokens_that_the_application_validates(
    serve: Serve, kind: Any, right: dict[str, Any], wrong: dict[str, Any]
) -> None:
    door = await serve(kind(validate))
    client = await door.enter(**right)
    await client.sync()
    assert client.socket.subprotocol == ("wshub.bearer" if "subprotocols" in right else None)
    assert door.hub.connections[0].claims == {"roles": ("admin",)}
    assert (await door.be_refused(**wrong))[:2] == (401, "not authenticated")
    assert (await door.be_refused())[0] == 401


async def test_a_ticket_opens_one_connection(serve: Serve) -> None:
    tickets = TicketAuth()
    door = await serve(tickets)
    ticket = await tickets.issue("alice")
    await door.enter(f"?ticket={ticket}")
    assert (await door.be_refused(f"?ticket={ticket}"))[:2] == (401, "invalid ticket")


async def test_whoever_is_first_and_a_browsers_marker_all_the_same(serve: Serve) -> None:
    door = await serve(FirstOf(CookieAuth("session", validate), SubprotocolTokenAuth(validate)))
    client = await door.enter(
        additional_headers={"Cookie": "session=good/+=%"}, subprotocols=["wshub.bearer", "bad"]
    )
    # A browser fails a connection when it has offered subprotocols and none is selected.
    assert client.socket.subprotocol == "wshub.bearer"


async def test_too_many_failures(serve: Serve) -> None:
    door = await serve(RateLimit(APIKeyAuthenticator({"key-1": "alice"}), attempts=2))
    for _ in range(2):
        assert (await door.be_refused(**bearer("guess")))[0] == 401
    status, text, challenge = await door.be_refused(**bearer("key-1"))
    assert (status, challenge) == (429, None)
    assert text.startswith("too many failed attempts")


async def test_validators_that_raise_hang_or_talk_nonsense_harm_nobody(serve: Serve) -> None:
    async def hang() -> AuthResult:
        await asyncio.Event().wait()
        raise AssertionError

    def judge(token: str) -> Any:
        match token:
            case "raise":
                raise LookupError("no database")
            case "hang":
                return hang()
            case "number":
                return 42
            case "none":
                return None
            case "blank":
                return AuthResult(True, "\t")
            case "odd":
                return AuthResult(True, "alice", {"odd": object()})
            case _:
                return AuthResult(True, token)

    door = await serve(BearerTokenAuth(judge), open_timeout=0.3)
    client = await door.enter(**bearer("alice"))
    for token, text in {
        "raise": "authenticator panicked",
        "hang": "authenticator panicked",
        "number": "authenticator panicked",
        "none": "authenticator panicked",
        "blank": "authenticated user ID must not be empty",
        "odd": "authentication claims are invalid",
    }.items():
        assert (await door.be_refused(**bearer(token)))[:2] == (401, text)
    door.hub.send_event("still here")
    assert (await client.receive())["data"]["event"] == "still here"
    await door.enter(**bearer("bob"))
    assert len(door.hub.connections) == 2


async def test_a_token_that_ends_closes_the_connection_unless_there_is_a_new_one(
    serve: Serve,
) -> None:
    door = await serve(JWTAuth(SECRET, algorithms=["HS256"]))
    leaving = await door.enter(**bearer(make(exp=time.time() + 1.7)))
    staying = await door.enter(**bearer(make(exp=time.time() + 1.7)))
    await staying.send(type="authenticate", data=make(sub="bob"))
    assert (await staying.receive())["data"] == "Authenticate: token refused"
    await staying.send(type="authenticate", data=make(role="admin"))
    answer = await staying.receive()
    assert answer["type"] == "authenticated"
    assert answer["data"]["expiresAt"] == pytest.approx(time.time() + 600, abs=30)
    with pytest.raises(ConnectionClosed):
        await leaving.receive()
    assert (leaving.socket.close_code, leaving.socket.close_reason) == (
        3000,
        "authentication expired",
    )
    await staying.sync()
    await eventually(lambda: len(door.hub.connections) == 1)
    claims = door.hub.connections[0].claims
    assert claims is not None
    assert claims["role"] == "admin"
    assert (await door.be_refused(**bearer(make(exp=time.time() - 1))))[:2] == (
        401,
        "authentication has expired",
    )


async def test_channels_by_user_and_claims(serve: Serve) -> None:
    authorizer = all_of(allow("user:{user_id}", "team:*"), allow_claimed("channels"))
    door = await serve(JWTAuth(SECRET, algorithms=["HS256"]), channel_authorizer=authorizer)
    client = await door.enter(**bearer(make(channels=["user:*", "team:7"])))
    for channel in ("user:alice", "user:bob", "team:7", "team:8"):
        await client.send(type="subscribe", channel=channel)
    for _ in range(2):
        assert (await client.receive())["data"] == "Subscribe: subscription unauthorised"
    await client.sync()
    assert door.hub.channels == ("team:7", "user:alice")


async def test_no_secret_is_in_any_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "wshub")
    caplog.set_level(logging.DEBUG, "asyncio")
    secret = "s3cret-t0ken-that-nobody-may-see"
    token = make(sub="alice", jti=secret)
    door = await serve(
        FirstOf(
            APIKeyAuthenticator({secret: "alice"}),
            JWTAuth(SECRET, algorithms=["HS256"]),
            QueryTokenAuth(lambda _: AuthResult(False)),
            CookieAuth("session", lambda _: AuthResult(False)),
        )
    )
    await door.enter(**bearer(secret))
    client = await door.enter(**bearer(token))
    await client.send(type="authenticate", data=token[:-3])
    await client.receive()
    for attempt in (
        bearer(secret + "x"),
        bearer(token[:-3]),
        {"query": f"?token={secret}"},
        {"additional_headers": {"Cookie": f"session={secret}"}},
        {"subprotocols": ["wshub.bearer", secret + "x"]},
    ):
        await door.be_refused(**attempt)
    for request, result in door.failures:
        assert secret not in repr((request, result))
        assert secret not in str(result.error)
    assert "refused authentication" in caplog.text
    assert secret not in caplog.text
    assert token not in caplog.text
    assert json.dumps(SECRET) not in caplog.text


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "bearer\tx", "Basic Og==", "x" * 7_000, "Bearer " + "x" * 7_900, "ä ö"],
)
async def test_odd_headers_over_the_wire(serve: Serve, header: str) -> None:
    door = await serve(APIKeyAuthenticator({"key-1": "alice"}))
    status, text, _ = await door.be_refused(additional_headers={"Authorization": header})
    assert status == 401
    assert text in ("malformed Authorization header", "invalid API key")
    await door.enter(**bearer("key-1"))
