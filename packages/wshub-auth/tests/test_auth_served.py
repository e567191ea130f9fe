"""All authenticators on all transports, with the client of the `websockets` library."""

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


class ServedHub:
    """A served hub, and the arguments of its calls of ``on_auth_failure``."""

    def __init__(self, hub: Hub, port: int, stack: AsyncExitStack) -> None:
        self.hub = hub
        self.port = port
        self.failures: list[tuple[Request, AuthResult]] = []
        self._stack = stack

    async def connect(self, query: str = "", **options: Any) -> WireClient:
        url = f"ws://127.0.0.1:{self.port}/ws{query}"
        return WireClient(
            await self._stack.enter_async_context(
                connect(url, proxy=None, compression=None, **options)
            )
        )

    async def expect_refusal(self, query: str = "", **options: Any) -> tuple[int, str, str | None]:
        """Return the status, the error that the hub reported, and the challenge."""
        before = len(self.failures)
        with pytest.raises(InvalidStatus) as raised:
            await self.connect(query, **options)
        response = raised.value.response
        assert len(self.failures) == before + 1, "on_auth_failure is called once for each refusal"
        request, result = self.failures[-1]
        assert request.remote_address.startswith("127.0.0.1:")
        return response.status_code, str(result.error), response.headers.get("WWW-Authenticate")


Serve = Callable[..., Awaitable[ServedHub]]


@pytest.fixture(params=["native", *ASGI_SERVERS])
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def serve(authenticator: Any, **settings: Any) -> ServedHub:
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
            served = ServedHub(hub, port, stack)
            served.failures = failures
            return served

        yield serve


def bearer(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


def make(**claims: Any) -> str:
    return jwt.encode({"sub": "alice", "exp": time.time() + 600, **claims}, SECRET)


def validate(token: str) -> AuthResult:
    return AuthResult(token == "good/+=%", "alice", {"roles": ["admin"]})


async def test_api_keys_identify_several_users(serve: Serve) -> None:
    served = await serve(APIKeyAuthenticator({"key-1": "alice", "key-2": "bob"}))
    await served.connect(**bearer("key-1"))
    await served.connect(**bearer("key-2"))
    assert [each.user_id for each in served.hub.connections] == ["alice", "bob"]
    assert served.hub.connections[0].claims == {"auth_method": "api_key"}
    assert await served.expect_refusal() == (401, "missing Authorization header", "Bearer")
    assert await served.expect_refusal(**bearer("key-3")) == (
        401,
        "invalid API key",
        'Bearer error="invalid_token"',
    )
    two = [("Authorization", "Basic x"), ("Authorization", "Bearer key-1")]
    _, text, _ = await served.expect_refusal(additional_headers=two)
    assert text == "malformed Authorization header"
    await served.connect(additional_headers=two[::-1])
    assert [each.user_id for each in served.hub.connections] == ["alice", "alice", "bob"]


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
async def test_a_validator_accepts_and_refuses_tokens_from_every_source(
    serve: Serve, kind: Any, right: dict[str, Any], wrong: dict[str, Any]
) -> None:
    served = await serve(kind(validate))
    client = await served.connect(**right)
    await client.sync()
    assert client.socket.subprotocol == ("wshub.bearer" if "subprotocols" in right else None)
    assert served.hub.connections[0].claims == {"roles": ("admin",)}
    assert (await served.expect_refusal(**wrong))[:2] == (401, "not authenticated")
    assert (await served.expect_refusal())[0] == 401


async def test_a_ticket_is_accepted_once(serve: Serve) -> None:
    tickets = TicketAuth()
    served = await serve(tickets)
    ticket = await tickets.issue("alice")
    await served.connect(f"?ticket={ticket}")
    assert (await served.expect_refusal(f"?ticket={ticket}"))[:2] == (401, "invalid ticket")


async def test_the_bearer_subprotocol_is_selected_also_when_a_cookie_authenticates(
    serve: Serve,
) -> None:
    served = await serve(FirstOf(CookieAuth("session", validate), SubprotocolTokenAuth(validate)))
    client = await served.connect(
        additional_headers={"Cookie": "session=good/+=%"}, subprotocols=["wshub.bearer", "bad"]
    )
    # A browser that has offered subprotocols fails the connection if none is selected.
    assert client.socket.subprotocol == "wshub.bearer"


async def test_too_many_failed_attempts_are_refused_with_429(serve: Serve) -> None:
    served = await serve(RateLimit(APIKeyAuthenticator({"key-1": "alice"}), attempts=2))
    for _ in range(2):
        assert (await served.expect_refusal(**bearer("guess")))[0] == 401
    status, text, challenge = await served.expect_refusal(**bearer("key-1"))
    assert (status, challenge) == (429, None)
    assert text.startswith("too many failed attempts")


async def test_a_failing_validator_refuses_its_client_and_affects_no_other_client(
    serve: Serve,
) -> None:
    async def hang() -> AuthResult:
        await asyncio.Event().wait()
        raise AssertionError

    def fail_in_some_way(token: str) -> Any:
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

    served = await serve(BearerTokenAuth(fail_in_some_way), open_timeout=0.3)
    client = await served.connect(**bearer("alice"))
    for token, text in {
        "raise": "authenticator panicked",
        "hang": "authenticator panicked",
        "number": "authenticator panicked",
        "none": "authenticator panicked",
        "blank": "authenticated user ID must not be empty",
        "odd": "authentication claims are invalid",
    }.items():
        assert (await served.expect_refusal(**bearer(token)))[:2] == (401, text)
    served.hub.send_event("later")
    assert (await client.receive())["data"]["event"] == "later"
    await served.connect(**bearer("bob"))
    assert len(served.hub.connections) == 2


async def test_an_expired_token_closes_the_connection_unless_the_client_sends_a_new_token(
    serve: Serve,
) -> None:
    served = await serve(JWTAuth(SECRET, algorithms=["HS256"]))
    leaving = await served.connect(**bearer(make(exp=time.time() + 1.7)))
    staying = await served.connect(**bearer(make(exp=time.time() + 1.7)))
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
    await eventually(lambda: len(served.hub.connections) == 1)
    claims = served.hub.connections[0].claims
    assert claims is not None
    assert claims["role"] == "admin"
    assert (await served.expect_refusal(**bearer(make(exp=time.time() - 1))))[:2] == (
        401,
        "authentication has expired",
    )


async def test_authorizers_use_the_user_id_and_the_claims_of_a_token(serve: Serve) -> None:
    authorizer = all_of(allow("user:{user_id}", "team:*"), allow_claimed("channels"))
    served = await serve(JWTAuth(SECRET, algorithms=["HS256"]), channel_authorizer=authorizer)
    client = await served.connect(**bearer(make(channels=["user:*", "team:7"])))
    for channel in ("user:alice", "user:bob", "team:7", "team:8"):
        await client.send(type="subscribe", channel=channel)
    for _ in range(2):
        assert (await client.receive())["data"] == "Subscribe: subscription unauthorised"
    await client.sync()
    assert served.hub.channels == ("team:7", "user:alice")


async def test_no_credential_appears_in_the_log_or_in_errors(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "wshub")
    caplog.set_level(logging.DEBUG, "asyncio")
    secret = "s3cret-t0ken-that-must-not-be-logged"
    token = make(sub="alice", jti=secret)
    served = await serve(
        FirstOf(
            APIKeyAuthenticator({secret: "alice"}),
            JWTAuth(SECRET, algorithms=["HS256"]),
            QueryTokenAuth(lambda _: AuthResult(False)),
            CookieAuth("session", lambda _: AuthResult(False)),
        )
    )
    await served.connect(**bearer(secret))
    client = await served.connect(**bearer(token))
    await client.send(type="authenticate", data=token[:-3])
    await client.receive()
    for attempt in (
        bearer(secret + "x"),
        bearer(token[:-3]),
        {"query": f"?token={secret}"},
        {"additional_headers": {"Cookie": f"session={secret}"}},
        {"subprotocols": ["wshub.bearer", secret + "x"]},
    ):
        await served.expect_refusal(**attempt)
    for request, result in served.failures:
        assert secret not in repr((request, result))
        assert secret not in str(result.error)
    assert "401 unauthorized" in caplog.text
    assert secret not in caplog.text
    assert token not in caplog.text
    assert json.dumps(SECRET) not in caplog.text


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "bearer\tx", "Basic Og==", "x" * 7_000, "Bearer " + "x" * 7_900, "ä ö"],
)
async def test_a_malformed_header_is_refused_and_the_hub_keeps_serving(
    serve: Serve, header: str
) -> None:
    served = await serve(APIKeyAuthenticator({"key-1": "alice"}))
    status, text, _ = await served.expect_refusal(additional_headers={"Authorization": header})
    assert status == 401
    assert text in ("malformed Authorization header", "invalid API key")
    await served.connect(**bearer("key-1"))
