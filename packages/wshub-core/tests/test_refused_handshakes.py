"""Refusals for clients that cannot read responses: a successful handshake and a close code."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgi_servers import ASGI_SERVERS
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from wshub_core import AuthError, AuthResult, Hub, HubConfig, Request, TooManyAttemptsError

V1 = Subprotocol("wshub.v1")


@pytest.fixture(params=["native", *ASGI_SERVERS])
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def serve(**settings: Any) -> tuple[Hub, str]:
            hub = Hub(HubConfig(**settings))
            if request.param == "native":
                await stack.enter_async_context(hub)
                port = (await stack.enter_async_context(hub.serve("127.0.0.1", 0))).port
            else:
                port = await stack.enter_async_context(ASGI_SERVERS[request.param](hub.asgi()))
            return hub, f"ws://127.0.0.1:{port}/ws"

        yield serve


async def closed(url: str, **options: Any) -> tuple[str | None, int | None, str | None]:
    """Connect; return the selected subprotocol and the close code and reason."""
    async with connect(url, proxy=None, **options) as socket:
        with contextlib.suppress(ConnectionClosed):
            await socket.send('{"type":"subscribe","channel":"a"}')
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        return socket.subprotocol, socket.close_code, socket.close_reason


async def test_each_refusal_has_its_close_code(serve: Any) -> None:
    later = AuthError("the identity provider is away")
    later.retry_after = 4.2
    results = {
        "no": AuthResult(False),
        "later": AuthResult(False, error=later),
        "often": AuthResult(False, error=TooManyAttemptsError(60)),
        "yes": AuthResult(True, "alice"),
    }
    failures: list[Request] = []
    hub, url = await serve(
        authenticator=lambda request: results[request.query],
        on_auth_failure=lambda request, _: failures.append(request),
        max_connections=1,
    )
    bearer = [V1, Subprotocol("wshub.bearer"), Subprotocol("s3cret")]
    assert await closed(f"{url}?no", subprotocols=[V1]) == ("wshub.v1", 3000, "")
    assert await closed(f"{url}?no", subprotocols=bearer) == ("wshub.v1", 3000, "")
    assert await closed(f"{url}?later", subprotocols=[V1]) == (
        "wshub.v1",
        3000,
        "retry-after: 5",
    )
    assert await closed(f"{url}?often", subprotocols=[V1]) == (
        "wshub.v1",
        1013,
        "retry-after: 60",
    )
    assert len(failures) == 4
    foreign = {"origin": Origin("https://evil.example"), "subprotocols": [V1]}
    assert await closed(f"{url}?yes", **foreign) == ("wshub.v1", 3003, "")
    async with connect(f"{url}?yes", proxy=None, subprotocols=bearer) as socket:
        assert socket.subprotocol == "wshub.v1"
        await socket.send('{"type":"ping"}')
        await socket.recv()
        assert await closed(f"{url}?yes", subprotocols=[V1]) == (
            "wshub.v1",
            1013,
            "retry-after: 5",
        )
        assert hub.stats().clients == 1
        assert hub.channels == ()


async def test_clients_without_the_marker_get_a_status(serve: Any) -> None:
    _, url = await serve(authenticator=lambda _: AuthResult(False))
    for offered in ([], ["wshub.bearer", "x"], ["wshub.V1"]):
        subprotocols = [Subprotocol(each) for each in offered] or None
        with pytest.raises(InvalidStatus, match="401"):
            await connect(url, proxy=None, subprotocols=subprotocols)
