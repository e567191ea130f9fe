"""The clients in Python, Node and Chromium behave as docs/reference/client-behaviour.md says."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from client_contract import ClientContract, ClientUnderTest, FailedError
from client_contract.interface import QUICK
from client_contract.observing import (
    eventually,
    failure_of,
    names,
    wait_event,
    wait_state,
    wait_until,
)
from client_contract.servers import Peer, run_hub, run_script, serve_normally, take_tokens
from js_clients import ChromiumClient, JSClient, NodeClient
from python_client import PythonClient

# One browser and one Node process serve all tests, so the tests share an event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

NODE = pytest.param(NodeClient.run, id="node")
CHROMIUM = pytest.param(ChromiumClient.run, id="chromium")

# A client in another language is one more entry: an async context manager with a ClientUnderTest.
CLIENTS = [pytest.param(PythonClient.run, id="python"), NODE, CHROMIUM]

in_javascript = pytest.mark.parametrize("running_client", [NODE, CHROMIUM], indirect=True)
in_a_browser = pytest.mark.parametrize("running_client", [CHROMIUM], indirect=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=CLIENTS)
async def running_client(request: pytest.FixtureRequest) -> AsyncIterator[ClientUnderTest]:
    async with request.param() as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def client(running_client: ClientUnderTest) -> AsyncIterator[ClientUnderTest]:
    yield running_client
    await running_client.close()


class TestEveryClient(ClientContract):
    """The contract, for each client."""


# Behavior that only the JavaScript client has.


@in_javascript
async def test_the_constructor_names_the_wrong_option(client: JSClient) -> None:
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
async def test_tokens_and_addresses_may_contain_any_character(client: JSClient) -> None:
    presented: list[str] = []
    async with run_hub(authenticator=take_tokens(presented)) as running:
        token = "(a)/(b)+c= ä,\"'"
        await client.start(f"{running.url.replace('ws:', 'http:', 1)}?x=1#part", token=token)
        await wait_event(client, "connect")
        assert presented == [token]
        await client.close()


@in_javascript
async def test_ended_is_resolved_or_rejected_at_the_end(client: JSClient) -> None:
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


@in_javascript
async def test_the_constructor_throws_in_a_runtime_without_a_websocket(
    client: JSClient,
) -> None:
    async with run_hub() as running:
        try:
            error = await failure_of(client.start_without_websocket(running.url, is_given=False))
            assert (error.name, error.fields["text"]) == (
                "TypeError",
                "there is no WebSocket here: give a class with the option WebSocket",
            )
        finally:
            await client.restore_websocket()
        assert running.connections == []


@in_javascript
async def test_a_websocket_class_can_be_an_option(client: JSClient) -> None:
    async with run_hub() as running:
        try:
            await client.start_without_websocket(running.url, is_given=True)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a")
            await running.drop()
            await wait_event(client, "reconnect")
            await client.close()
        finally:
            await client.restore_websocket()
        assert names(await client.events())[-1] == "end"


@in_javascript
async def test_an_option_that_is_no_websocket_class_is_refused(client: JSClient) -> None:
    wrong: list[Any] = ["ws", 5, {}, True]
    for given in wrong:
        error = await failure_of(client.start("ws://127.0.0.1:1/ws", WebSocket=given))
        assert error.name == "TypeError"


@in_javascript
async def test_a_standstill_of_the_runtime_does_not_end_the_connection(client: JSClient) -> None:
    async with run_script(serve_normally) as server:
        await client.start(
            server.url, heartbeat_interval=0.05, pong_timeout=0.2, open_timeout=0.3, **QUICK
        )
        # Longer than all timeouts, while the answer of the hub waits to be read.
        await client.block(0.7)
        await wait_event(client, "connect")
        for _ in range(4):
            frames = server.peers[0].frames
            count = len(frames) + 1
            await wait_until(partial(has_length, frames, count))
            await client.block(0.5)
        assert names(await client.events()) == ["connect"]
        assert len(server.peers) == 1


def has_length(items: list[Any], count: int) -> bool:
    return len(items) >= count


@in_javascript
async def test_token_functions_that_throw_anything_or_hang_are_failed_dials(
    client: JSClient,
) -> None:
    presented: list[str] = []
    tokens: list[Any] = [*["(throws)"] * 7, "(hangs)", 5, "", "\ud800", {}, "good"]
    async with run_hub(authenticator=take_tokens(presented)) as running:
        await client.start(running.url, tokens=tokens, open_timeout=0.2, **QUICK)
        await wait_event(client, "connect")
        events = await client.events()
        assert names(events) == [*["error"] * 12, "connect"]
        assert {each["name"] for each in events[:-1]} == {"DialError"}
        assert presented == ["good"]


@in_javascript
async def test_a_client_that_is_closed_while_its_token_is_awaited_ends(client: JSClient) -> None:
    async with run_hub() as running:
        for token in ("(closes)", "(hangs)"):
            await client.start(running.url, tokens=[token, "x"])
            await asyncio.wait_for(client.close(), 5)
            assert await client.events() == [{"event": "end", "name": None}]
        assert running.connections == []


@in_javascript
async def test_unreadable_messages_are_counted(client: JSClient) -> None:
    junk = ["no JSON", "[]", "null", "7", '{"type":5}', '{"type":"x","channel":5}', "{}", "[" * 999]

    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.socket.send("\n".join(["", *junk, "  ", '{"type":"good"}', "\r"]))
        await peer.socket.send(b"\xff")
        if peer.number == 2:
            await peer.serve()

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "reconnect")
        await wait_event(client, "message", 2)
        await eventually(client.unreadable_messages, lambda count: count == 2 * (len(junk) + 1))


@in_javascript
async def test_a_channel_name_that_fits_no_message_is_refused_at_once(client: JSClient) -> None:
    async with run_hub() as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        error = await failure_of(client.subscribe_confirmed("x" * 40_000))
        assert error.name == "MessageTooLargeError"
        error = await failure_of(client.subscribe_confirmed("x" * 20_000))
        assert error.fields["code"] == "invalid_channel"
        assert "disconnect" not in names(await client.events())


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
async def test_a_page_that_is_online_or_visible_again_dials_or_pings_at_once(
    client: ChromiumClient, happens: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
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
  const names = ["state", "connect", "reconnect", "disconnect", "error", "message", "end"];
  for (const each of names) {
    client.addEventListener(each, () => {
      if (each !== "state") seen.push({event: each});
      if (each === name) client.close();
    });
  }
}"""


@in_a_browser
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("state", ["end"]),
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
