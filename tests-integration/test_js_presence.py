"""The JavaScript client asks who is present."""

import pytest
from client_contract.interface import QUICK
from client_contract.observing import failure_of, named, wait_event
from client_contract.recovery import next_frame, serve_ids
from client_contract.servers import Peer, run_script
from js_clients import JSClient
from js_fixtures import client as client
from js_fixtures import running_client as running_client

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
