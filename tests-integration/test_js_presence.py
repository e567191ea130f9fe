"""The JavaScript client asks who is present."""

import pytest
from client_contract.interface import QUICK
from client_contract.observing import failure_of, named, wait_event
from client_contract.recovery import next_frame, serve_ids
from client_contract.servers import Peer, run_hub, run_script, take_tokens
from js_clients import JSClient
from js_fixtures import client as client
from js_fixtures import running_client as running_client

from wshub_core import PresenceSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_presence_of_a_hub(client: JSClient) -> None:
    async with run_hub(
        authenticator=take_tokens([]), presence={"room:*": PresenceSettings()}
    ) as running:
        await client.start(running.url, token="x", **QUICK)
        await wait_event(client, "connect")
        error = await failure_of(client.presence("room:a"))
        assert (error.name, error.fields["code"]) == ("PresenceRefusedError", "presence_denied")
        error = await failure_of(client.presence("a"))
        assert error.fields["code"] == "no_presence"
        await client.subscribe_confirmed("room:a")
        answer = await client.presence("room:a")
        [member] = answer.pop("members")
        assert answer == {"connections": 1, "users": 1}
        assert member["userId"] == "alice"
        assert await client.presence("room:a", count=True) == {"connections": 1, "users": 1}


async def test_presence_of_an_empty_channel_has_no_members(client: JSClient) -> None:
    async with run_hub(
        presence={"room:*": PresenceSettings()}, presence_authorizer=lambda *_: True
    ) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        answer = await client.presence("room:a")
        assert answer == {"connections": 0, "users": 0, "members": []}


async def test_presence_is_the_answer_of_the_hub(client: JSClient) -> None:
    members = [{"userId": "alice", "connectionId": "c1", "info": {"name": "Alice"}}]
    full = {"connections": 2, "users": 1, "members": members, "truncated": True}
    counts = {"connections": 2, "users": 1}

    async def script(peer: Peer) -> None:
        for _ in range(2):
            frame = await next_frame(peer, "presence")
            assert frame["channel"] == "a"
            assert frame.get("data") in (None, {"count": True})
            data = full if "data" not in frame else counts
            fields = {"type": "presence", "channel": "a", "data": data}
            await peer.send({**fields, "data": "forged"}, {**fields, "id": frame["id"]})
        frame = await next_frame(peer, "presence")
        fields = {"channel": "b", "code": "presence_denied", "data": "presence unauthorised"}
        await peer.send({"type": "error", "id": frame["id"], **fields})
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        assert await client.presence("a") == full
        assert await client.presence("a", count=True) == counts
        error = await failure_of(client.presence("b"))
        expected = ("PresenceRefusedError", "b", "presence_denied")
        assert (error.name, error.fields["channel"], error.fields["code"]) == expected
        assert [each["data"] for each in named(await client.events(), "message")] == ["forged"] * 2


async def test_presence_needs_a_hub_that_serves_it(client: JSClient) -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 1:
            # Presence is not known here; only the ping behind it is answered.
            await next_frame(peer, "presence")
            await next_frame(peer, "presence")
        else:
            await serve_ids(peer)

    await client.start("ws://127.0.0.1:1/ws", **QUICK)
    assert (await failure_of(client.presence("a"))).name == "NotConnectedError"
    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        error = await failure_of(client.presence("a"))
        assert (error.name, error.fields["code"]) == ("PresenceRefusedError", "not_served")
        # The connection ends before the answer.
        assert (await failure_of(client.presence("a"))).name == "LostError"
        await client.close()
        assert (await failure_of(client.presence("a"))).name == "ClientClosedError"
