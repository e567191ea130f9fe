"""What a browser makes of tokens among the subprotocols, of refusals, and of ends."""

import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from browsers import launch_browser, open_page
from playwright.async_api import Browser

from wshub_auth import FirstOf, SubprotocolTokenAuth
from wshub_auth.jwt import JWTAuth
from wshub_core import AuthResult, Hub, HubConfig, Response

SECRET = "a secret of at least thirty-two bytes"

# Connects, and tells in one object how that went; the connection ends by itself.
CONNECT = """async ([url, protocols]) => new Promise((resolve) => {
  const seen = {opened: false, protocol: null, messages: []};
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => {
    seen.opened = true;
    seen.protocol = socket.protocol;
    socket.send(JSON.stringify({type: "subscribe", channel: "user:alice"}));
    socket.send(JSON.stringify({type: "ping"}));
  };
  socket.onmessage = (event) => seen.messages.push(JSON.parse(event.data).type);
  socket.onclose = (event) => resolve({...seen, code: event.code, reason: event.reason});
})"""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launch_browser() as browser:
        yield browser


async def connect(browser: Browser, config: HubConfig, *protocols: str) -> Any:
    async with (
        Hub(config) as hub,
        hub.serve(
            "localhost", 0, process_request=lambda _: Response(200, content_type="text/html")
        ) as server,
    ):
        page = await open_page(browser, f"http://localhost:{server.port}/", [])
        return await page.evaluate(CONNECT, [f"ws://localhost:{server.port}/ws", protocols])


async def test_a_token_among_the_subprotocols_until_it_ends(browser: Browser) -> None:
    # The browser has to open its page before the token ends.
    token = jwt.encode({"sub": "alice", "exp": time.time() + 6}, SECRET)
    config = HubConfig(authenticator=JWTAuth(SECRET, algorithms=["HS256"]))
    assert await connect(browser, config, "wshub.bearer", token) == {
        "opened": True,
        "protocol": "wshub.bearer",
        "messages": ["pong"],
        "code": 3000,
        "reason": "authentication expired",
    }


async def test_any_token_fits_when_it_is_encoded(browser: Browser) -> None:
    def validate(token: str) -> AuthResult:
        return AuthResult(token == "a/b+c= ä", "alice", expires_at=time.time() + 0.3)

    config = HubConfig(authenticator=FirstOf(SubprotocolTokenAuth(validate)))
    seen = await connect(browser, config, "wshub.bearer", "a%2Fb%2Bc%3D%20%C3%A4")
    assert (seen["opened"], seen["protocol"]) == (True, "wshub.bearer")


async def test_a_refusal_is_a_connection_that_never_opens(browser: Browser) -> None:
    config = HubConfig(authenticator=JWTAuth(SECRET, algorithms=["HS256"]))
    seen = await connect(browser, config, "wshub.bearer", "nonsense")
    assert (seen["opened"], seen["code"]) == (False, 1006)
