"""Failures of other HTTP APIs, from their public bug reports, with the right behavior."""

import json
from typing import Any

import pytest
from api_support import authenticate, by_user, call, refused, serve_api
from support import Serve, WireClient
from test_http_app import connected
from websockets.asyncio.client import connect

from wshub_core import Hub, HubConfig
from wshub_core.testing import MemoryBridge, MemoryExchange


async def test_a_body_that_ends_early_is_not_used_although_it_is_whole_json() -> None:
    # quater 30: an adapter that takes the end of the client for the end of the body uses a part.
    async with Hub() as hub:
        events: list[Any] = [
            {"type": "http.request", "body": b'{"channel": "a"}', "more_body": True},
            {"type": "http.disconnect"},
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return events.pop(0)

        async def send(event: Any) -> None:
            sent.append(event)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/publish",
            "query_string": b"",
            "headers": [
                (b"authorization", b"Bearer all"),
                (b"content-type", b"application/json"),
                (b"content-length", b"1000"),
            ],
        }
        await hub.api(authenticate)(scope, receive, send)
        assert (events, sent) == ([], [])
        assert hub.stats().messages == 0


async def test_a_batch_with_errors_is_not_published_again(serve: Serve) -> None:
    # If only answers without errors were kept, a repeated batch would double its good messages.
    served = await serve_api(serve)
    body = {"messages": [{"channel": "a"}, {"channel": "no channel"}]}
    async with connected(served) as peer:
        first = await call(peer, "publish_batch", body, idempotency_key="k")
        assert first[1]["published"] == 1
        assert await call(peer, "publish_batch", body, idempotency_key="k") == first
    assert served.hub.stats().messages == 1


async def test_a_failure_is_not_repeated_for_the_next_attempt(serve: Serve) -> None:
    # IdempotentAPI 37, Truxify 2869: if failures were kept, the attempt behind an outage would
    # still get the old failure.
    served = await serve_api(serve, max_message_bytes=1_000)
    body = {"channel": "a", "data": "x" * 1_000}
    async with connected(served) as peer:
        for _ in range(2):
            expected = (413, "message_too_large")
            assert await refused(peer, "publish", body, idempotency_key="k") == expected
        small = {"channel": "a"}
        assert (await call(peer, "publish", small, idempotency_key="k"))[0] == 200


async def test_an_empty_user_id_reaches_nobody(serve: Serve) -> None:
    # Centrifugo 56: in other systems an empty id stands for everybody, or for all who have no user.
    served = await serve_api(serve)
    client = await served.connect()
    async with connected(served) as peer:
        for operation in ("disconnect_user", "send_to_user", "subscribe_user"):
            body = {"userId": "", **({"channel": "a"} if operation == "subscribe_user" else {})}
            assert await refused(peer, operation, body) == (400, "invalid_field")
        body = {"userId": " "}
        assert await call(peer, "disconnect_user", body) == (200, {"connections": 0})
    await client.sync()


async def test_a_message_that_fits_the_body_but_not_the_bridge_is_refused_clearly(
    serve: Serve,
) -> None:
    # omni 1166: two limits that disagree gave an unclear 500, which clients repeat for ever.
    served = await serve_api(serve, max_message_bytes=1_000)
    async with MemoryBridge(served.hub, MemoryExchange()), connected(served) as peer:
        sizes = range(800, 1_000)
        answers = [
            await call(peer, "publish", {"channel": "a", "data": "x" * size}) for size in sizes
        ]
    assert {status for status, _ in answers} == {200, 413}
    refusals = [answer["error"] for status, answer in answers if status == 413]
    assert {each["code"] for each in refusals} == {"message_too_large"}
    assert all("the limit is" in each["message"] for each in refusals)


async def test_thousands_of_channels_are_read_in_pages(serve: Serve) -> None:
    # Centrifugo 341: a list of all channels at once makes pages of administrators hang.
    served = await serve_api(serve, authenticator=by_user, max_subscriptions=5_000)
    url = f"ws://127.0.0.1:{served.server.port}/ws?a"
    async with connect(url, proxy=None) as socket, connected(served) as peer:
        client = WireClient(socket)
        for number in range(5_000):
            await client.send(type="subscribe", channel=f"room:{number}")
        await client.sync()
        seen: list[str] = []
        after = ""
        while after is not None:
            _, answer = await call(peer, "channels", {"prefix": "room:", "after": after})
            assert len(json.dumps(answer)) < 10_000
            assert answer["total"] == 5_000
            seen += [each["channel"] for each in answer["channels"]]
            after = answer["next"]
    assert len(seen) == len(set(seen)) == 5_000
    assert seen == sorted(seen)


async def test_a_disconnected_user_is_told_not_to_come_back(serve: Serve) -> None:
    # rapidpro 6836: a code for which clients connect again lets a banned user return every few
    # seconds.
    served = await serve_api(serve, authenticator=by_user)
    url = f"ws://127.0.0.1:{served.server.port}/ws?a"
    async with connect(url, proxy=None) as socket, connected(served) as peer:
        await WireClient(socket).sync()
        await call(peer, "disconnect_user", {"userId": "a"})
        await socket.wait_closed()
        assert socket.close_code == 1008


def test_the_settings_of_a_hub_do_not_open_the_api() -> None:
    # An API whose protection is an optional setting is open wherever the setting is forgotten.
    hub: Any = Hub(HubConfig())
    with pytest.raises(TypeError):
        hub.api()
