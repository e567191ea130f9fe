"""Idempotency keys: a repeated request has no second effect, within bounds."""

import asyncio
import json
from typing import Any

import pytest
from api_support import call, refused, request, serve_api
from support import Serve, eventually
from test_http_app import connected

from wshub_core.testing import MemoryBridge, MemoryExchange

BODY = {"channel": "a", "data": 1}


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("publish", BODY),
        ("publish_batch", {"messages": [BODY, {"channel": "/"}]}),
        ("broadcast", {"data": 1}),
        ("send_to_user", {"userId": "a", "data": 1}),
    ],
)
async def test_a_repeated_request_publishes_once_and_gets_the_same_answer(
    serve: Serve, operation: str, body: Any
) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        first = await call(peer, operation, body, idempotency_key="k1")
        messages = served.hub.stats().messages
        assert messages == (0 if operation == "send_to_user" else 1)
        for _ in range(3):
            assert await call(peer, operation, body, idempotency_key="k1") == first
        assert served.hub.stats().messages == messages
        assert await call(peer, operation, body, idempotency_key="k2") == first
        assert served.hub.stats().messages == 2 * messages


async def test_the_same_key_at_once_publishes_once(serve: Serve) -> None:
    served = await serve_api(serve)
    sent = request("publish", BODY, idempotency_key="k")

    async def ask() -> int:
        async with connected(served) as peer:
            return (await peer.ask(sent))[0]

    assert await asyncio.gather(*(ask() for _ in range(20))) == [200] * 20
    assert served.hub.stats().messages == 1


async def test_a_client_that_goes_before_the_answer_can_repeat(serve: Serve) -> None:
    served = await serve_api(serve)
    sent = request("publish", BODY, idempotency_key="k")
    _, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    writer.write(sent)
    await writer.drain()
    writer.transport.abort()
    async with connected(served) as peer:
        assert (await peer.ask(sent))[0] == 200
    await eventually(lambda: not served.sockets)
    assert served.hub.stats().messages == 1


async def test_another_body_with_the_same_key_is_refused(serve: Serve) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        assert (await call(peer, "publish", BODY, idempotency_key="k"))[0] == 200
        other = {**BODY, "data": 2}
        expected = (422, "idempotency_key_reused")
        assert await refused(peer, "publish", other, idempotency_key="k") == expected
        assert served.hub.stats().messages == 1


async def test_keys_of_other_users_and_operations_are_other_keys(serve: Serve) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        for options in ({"key": "all"}, {"key": "publisher"}):
            assert (await call(peer, "publish", BODY, idempotency_key="k", **options))[0] == 200
        assert (await call(peer, "broadcast", {"data": 1}, idempotency_key="k"))[0] == 200
    assert served.hub.stats().messages == 3


async def test_a_refused_request_does_not_use_its_key(serve: Serve) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        wrong = {"channel": "no channel"}
        assert (await refused(peer, "publish", wrong, idempotency_key="k"))[0] == 400
        assert (await call(peer, "publish", BODY, idempotency_key="k"))[0] == 200


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb", "a\x7fb"])
async def test_a_malformed_key_is_refused(serve: Serve, key: str) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        expected = (400, "invalid_idempotency_key")
        assert await refused(peer, "publish", BODY, idempotency_key=key) == expected
        repeated = request("publish", BODY, idempotency_key="a", Idempotency_Key="b")
        status, _, body = await peer.ask(repeated)
        assert (status, json.loads(body)["error"]["code"]) == expected
    assert served.hub.stats().messages == 0


async def test_a_request_that_is_repeated_at_another_hub_publishes_once(serve: Serve) -> None:
    exchange = MemoryExchange()
    here, there = await serve_api(serve), await serve_api(serve)
    async with (
        MemoryBridge(here.hub, exchange),
        MemoryBridge(there.hub, exchange),
        connected(here) as near,
        connected(there) as far,
    ):
        client = await there.connect()
        await client.subscribe("a")
        batch = {"messages": [BODY, {"channel": "/"}]}
        for operation, body in (("publish", BODY), ("publish_batch", batch)):
            first = await call(near, operation, body, idempotency_key="k")
            assert first[0] == 200
            assert await call(far, operation, body, idempotency_key="k") == first
            assert (await client.receive())["data"] == 1
        expected = (422, "idempotency_key_reused")
        other = {**BODY, "data": 2}
        assert await refused(far, "publish", other, idempotency_key="k") == expected
        await client.sync()


async def test_an_answer_that_is_too_large_for_the_bridge_stays_on_its_hub(serve: Serve) -> None:
    exchange = MemoryExchange()
    here = await serve_api(serve, max_message_bytes=2_000)
    there = await serve_api(serve, max_message_bytes=2_000)
    async with (
        MemoryBridge(here.hub, exchange),
        MemoryBridge(there.hub, exchange),
        connected(here) as near,
        connected(there) as far,
    ):
        batch = {"messages": [{"channel": "/"}] * 50}  # an answer with 50 errors
        for peer in (near, near, far):
            status, answer = await call(peer, "publish_batch", batch, idempotency_key="k")
            assert (status, len(answer["errors"])) == (200, 50)
