"""Functions of the application that raise: an exception becomes a refusal."""

import asyncio
from collections.abc import Callable

import pytest
from mistakes import MISTAKES

from wshub_auth import BearerTokenAuth, FirstOf, QueryTokenAuth, all_of, any_of
from wshub_core import AuthResult, Connection, Hub, HubConfig, Request
from wshub_core.testing import HandshakeRefusedError, connect


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("is_async", [False, True])
async def test_the_next_authenticator_is_tried_after_one_that_raises(
    mistake: Callable[[], None], is_async: bool
) -> None:
    def fail(_: Request) -> AuthResult:
        mistake()
        raise AssertionError

    async def fail_later(request: Request) -> AuthResult:
        await asyncio.sleep(0)
        return fail(request)

    authenticator = FirstOf(fail_later if is_async else fail, lambda _: AuthResult(True, "alice"))
    async with Hub(HubConfig(authenticator=authenticator)) as hub:
        await connect(hub)
        assert hub.connections[0].user_id == "alice"


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_validator_that_raises_refuses_the_token_with_a_challenge(
    mistake: Callable[[], None], is_async: bool
) -> None:
    def fail(_: str) -> AuthResult:
        mistake()
        raise AssertionError

    async def fail_later(token: str) -> AuthResult:
        await asyncio.sleep(0)
        return fail(token)

    authenticator = BearerTokenAuth(fail_later if is_async else fail)
    async with Hub(HubConfig(authenticator=FirstOf(authenticator, QueryTokenAuth(fail)))) as hub:
        with pytest.raises(HandshakeRefusedError) as raised:
            await connect(hub, headers={"Authorization": "Bearer t"})
        assert raised.value.response.status == 401
        assert raised.value.response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_an_authorizer_that_raises_denies_the_channel(mistake: Callable[[], None]) -> None:
    def fail(connection: Connection, channel: str) -> bool:
        mistake()
        return True

    def agree(connection: Connection, channel: str) -> bool:
        return True

    for authorizer, expected in ((any_of(fail, agree), ("a",)), (all_of(agree, fail), ())):
        async with Hub(HubConfig(channel_authorizer=authorizer)) as hub:
            client = await connect(hub)
            client.subscribe("a")
            await client.sync()
            assert hub.channels == expected


async def test_a_cancelled_authentication_raises_cancelled_error() -> None:
    started = asyncio.Event()

    async def hang(_: Request) -> AuthResult:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.ensure_future(FirstOf(hang, hang)(Request("GET", "/ws")))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
