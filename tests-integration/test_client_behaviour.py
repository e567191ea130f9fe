"""Every client behaves as docs/reference/client-behaviour.md says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from client_scenarios import (
    QUICK,
    SCENARIOS,
    ClientUnderTest,
    FailedError,
    Peer,
    Scenario,
    eventually,
    failure_of,
    names,
    run_hub,
    run_script,
    take_tokens,
    wait_event,
    wait_state,
    wait_until,
)
from js_clients import ChromiumClient, JSClient, NodeClient
from python_client import PythonClient

# One browser and one process of Node serve all tests, so these share an event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

NODE = pytest.param(NodeClient.run, id="node")
CHROMIUM = pytest.param(ChromiumClient.run, id="chromium")

# Clients in other languages join here, each with an async context manager that yields a
# ClientUnderTest.
CLIENTS = [pytest.param(PythonClient.run, id="python"), NODE, CHROMIUM]

in_javascript = pytest.mark.parametrize("client", [NODE, CHROMIUM], indirect=True)
in_a_browser = pytest.mark.parametrize("client", [CHROMIUM], indirect=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=CLIENTS)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[ClientUnderTest]:
    async with request.param() as client:
        yield client


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_row(client: ClientUnderTest, scenario: Scenario) -> None:
    try:
        async with asyncio.timeout(30):
            await scenario(client)
    finally:
        await client.close()


# What only JavaScript has.


@in_javascript
async def test_construction_says_what_is_wrong(client: JSClient) -> None:
    url = "ws://127.0.0.1:1/ws"
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("ftp://127.0.0.1/?token=secret", {}, "not the address of a hub: ftp://127.0.0.1/"),
        (url, {"initial_backof": 1}, "there is no option initialBackof"),
        (url, {"initial_backoff": 0}, "initialBackoff must be a number above 0"),
        (url, {"max_attempts": -1}, "maxAttempts must be a number"),
        (url, {"open_timeout": "3"}, "openTimeout must be a number above 0"),
        (url, {"queue": {"bites": 1}}, "there is no option queue.bites"),
        (url, {"queue": {"age": 0}}, "queue.age must be a number above 0"),
        (url, {"token": ""}, "token must be a text or a function"),
        (url, {"token": "x", "plain": True}, "a plain client cannot present a token"),
    ]
    for address, options, text in wrong:
        error = await failure_of(client.start(address, **options))
        assert error.name == "TypeError"
        assert error.fields["text"].startswith(text)
        assert "secret" not in error.fields["text"]


@in_javascript
async def test_any_token_and_address_fit(client: JSClient) -> None:
    presented: list[str] = []
    async with run_hub(authenticator=take_tokens(presented)) as running:
        token = "(a)/(b)+c= ä,\"'"
        await client.start(f"{running.url.replace('ws:', 'http:', 1)}?x=1#part", token=token)
        await wait_event(client, "connect")
        assert presented == [token]
        await client.close()


@in_javascript
async def test_the_end_can_be_waited_for(client: JSClient) -> None:
    async with run_hub() as running:
        await client.start(running.url)
        ended = asyncio.create_task(client.ended())
        await wait_event(client, "connect")
        assert not ended.done()
        await client.close()
        await ended
    async with run_hub(check_origin=lambda _: False) as running:
        await client.start(running.url)
        with pytest.raises(FailedError, match="RefusedError"):
            await client.ended()


@in_a_browser
async def test_an_address_is_relative_to_the_page(client: ChromiumClient) -> None:
    await client.start("ws")
    await wait_event(client, "connect")
    await client.close()


@in_a_browser
@pytest.mark.parametrize(
    "happens",
    [
        "dispatchEvent(new Event('online'))",
        "document.dispatchEvent(new Event('visibilitychange'))",
    ],
)
async def test_a_page_that_is_back_dials_or_pings_at_once(
    client: ChromiumClient, happens: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        if peer.number == 1:
            await peer.socket.close(1013, "retry-after: 60")
        await peer.serve()

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "disconnect")
        await wait_state(client, "disconnected")
        await client.page.evaluate(happens)
        await wait_event(client, "reconnect")
        peer = server.peers[1]
        assert [each["type"] for each in peer.frames] == ["ping"]
        await client.page.evaluate(happens)
        await wait_until(lambda: len(peer.frames) == 2)
        assert peer.frames[1]["type"] == "ping"
        await client.close()
        before = await client.events()
        await client.page.evaluate(happens)
        assert await client.events() == before
        assert len(server.peers) == 2


CLOSE_IN = """async ([url, name]) => {
  const { ReconnectingClient } = await import("/wshub.js");
  const client = new ReconnectingClient(url);
  globalThis.seen = [];
  for (const each of ["connect", "reconnect", "disconnect", "error", "message", "end"]) {
    client.addEventListener(each, () => {
      seen.push({event: each});
      if (each === name) client.close();
    });
  }
}"""


@in_a_browser
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("connect", ["connect", "disconnect", "end"]),
        ("message", ["connect", "message", "disconnect", "end"]),
        ("error", ["connect", "message", "message", "error", "disconnect", "end"]),
        ("disconnect", ["connect", "message", "message", "error", "disconnect", "end"]),
        ("end", ["connect", "message", "message", "error", "disconnect", "end"]),
    ],
)
async def test_a_listener_may_close(client: ChromiumClient, name: str, expected: list[str]) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_to_ping()
        await peer.send({"type": "early"}, {"type": "pong"}, {"type": "late"})
        await peer.socket.close(4999 if name == "end" else 1000)

    async with run_script(script) as server:
        await client.page.evaluate(CLOSE_IN, [server.url, name])

        async def see() -> list[dict[str, Any]]:
            seen: list[dict[str, Any]] = await client.page.evaluate("seen")
            return seen

        events = await eventually(see, lambda events: {"event": "end"} in events)
        assert names(events) == expected
