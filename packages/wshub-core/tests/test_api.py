"""The operations of the HTTP API: real requests, and what clients of the hub receive."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
from api_support import authenticate, by_user, call, refused, serve_api
from support import Serve, Served, WireClient, eventually
from test_http_app import connected
from websockets.asyncio.client import connect

from wshub_core import (
    Connection,
    HistoryLimits,
    Hub,
    HubConfig,
    InvalidConfigError,
    PresenceSettings,
)
from wshub_core.testing import MemoryBridge, MemoryExchange
from wshub_core.testing import connect as connect_in_memory


async def connect_as(served: Served, user: str) -> WireClient:
    """Connect a client as a user."""
    url = f"ws://127.0.0.1:{served.server.port}/ws?{user}"
    return WireClient(await served._stack.enter_async_context(connect(url, proxy=None)))


async def test_a_message_is_published_to_the_subscribers(serve: Serve) -> None:
    served = await serve_api(serve)
    client = await served.connect()
    await client.subscribe("news")
    async with connected(served) as peer:
        assert await call(peer, "publish", {"channel": "other"}) == (200, {})
        assert await call(peer, "publish", {"channel": "news", "data": {"a": [1, "ö"]}}) == (
            200,
            {},
        )
        body = {
            "channel": "news",
            "type": "process_output",
            "processId": "x",
            "data": "50 %",
            "overwrites": True,
        }
        assert await call(peer, "publish", body) == (200, {})
    message = await client.receive()
    assert message.pop("timestamp")
    assert message == {"type": "event", "channel": "news", "data": {"a": [1, "ö"]}}
    message = await client.receive()
    assert message.pop("timestamp")
    assert message == body


async def test_a_batch_is_published_in_order_and_reports_the_messages_at_fault(
    serve: Serve,
) -> None:
    served = await serve_api(serve)
    client = await served.connect()
    await client.subscribe("news")
    messages: list[Any] = [{"channel": "news", "data": number} for number in range(100)]
    messages[3] = {"channel": "no channel"}
    messages[4] = {"channel": "news", "type": "pong"}
    messages[5] = {"channel": "news", "data": "x" * 65_536}
    messages[6] = {"channel": "wshub:hubs"}
    async with connected(served) as peer:
        status, answer = await call(peer, "publish_batch", {"messages": messages})
    assert (status, answer["published"]) == (200, 96)
    assert [(each["index"], each["code"]) for each in answer["errors"]] == [
        (3, "invalid_channel"),
        (4, "reserved_type"),
        (5, "message_too_large"),
        (6, "publish_denied"),
    ]
    seen = [(await client.receive())["data"] for _ in range(96)]
    assert seen == [0, 1, 2, *range(7, 100)]


async def test_everybody_receives_a_broadcast(serve: Serve) -> None:
    served = await serve_api(serve)
    clients = [await served.connect() for _ in range(3)]
    async with connected(served) as peer:
        assert await call(peer, "broadcast", {"data": {"event": "deploy"}}) == (200, {})
    for client in clients:
        assert (await client.receive())["data"] == {"event": "deploy"}


async def test_a_message_reaches_all_connections_of_a_user_and_no_others(serve: Serve) -> None:
    served = await serve_api(serve, authenticator=by_user)
    first, other, second = [await connect_as(served, user) for user in ("a", "b", "a")]
    async with connected(served) as peer:
        body = {"userId": "a", "data": "for a"}
        assert await call(peer, "send_to_user", body) == (200, {"connections": 2})
        body = {"userId": "nobody", "data": "x"}
        assert await call(peer, "send_to_user", body) == (200, {"connections": 0})
    assert (await first.receive())["data"] == (await second.receive())["data"] == "for a"
    await other.sync()


async def test_channels_are_listed_in_pages_by_prefix(serve: Serve) -> None:
    served = await serve_api(serve)
    client, second = await served.connect(), await served.connect()
    for name in ("room", "room:1", "room:2", "room:3", "roomy", "a", "z"):
        await client.subscribe(name)
    await second.subscribe("room:2")
    async with connected(served) as peer:
        status, answer = await call(peer, "channels", {"prefix": "room:", "limit": 2})
        assert status == 200
        assert answer == {
            "channels": [
                {"channel": "room:1", "subscribers": 1},
                {"channel": "room:2", "subscribers": 2},
            ],
            "total": 3,
            "next": "room:2",
        }
        body = {"prefix": "room:", "limit": 2, "after": answer["next"]}
        status, answer = await call(peer, "channels", body)
        assert answer == {
            "channels": [{"channel": "room:3", "subscribers": 1}],
            "total": 3,
            "next": None,
        }
        names, after = [], ""
        while after is not None:
            _, answer = await call(peer, "channels", {"limit": 2, "after": after})
            names += [each["channel"] for each in answer["channels"]]
            after = answer["next"]
        assert names == ["a", "room", "room:1", "room:2", "room:3", "roomy", "z"]
        # A page that begins behind all names is empty.
        for body in ({"after": "zz"}, {"prefix": "q"}, {"prefix": "a", "after": "b"}):
            _, answer = await call(peer, "channels", body)
            assert (answer["channels"], answer["next"]) == ([], None)


async def test_a_history_is_read_in_pages_and_cleared(serve: Serve) -> None:
    served = await serve_api(serve, history={"log": HistoryLimits(messages=5)})
    async with connected(served) as peer:
        for number in range(8):
            await call(peer, "publish", {"channel": "log", "data": number})
        status, answer = await call(peer, "history", {"channel": "log", "since": 5, "limit": 2})
        assert status == 200
        assert (answer["first"], answer["offset"]) == (4, 8)
        assert [(each["offset"], each["data"]) for each in answer["messages"]] == [(6, 5), (7, 6)]
        assert {each["epoch"] for each in answer["messages"]} == {answer["epoch"]}
        _, answer = await call(peer, "history", {"channel": "log", "reverse": True, "limit": 1})
        assert [each["data"] for each in answer["messages"]] == [7]
        assert await call(peer, "clear_history", {"channel": "log"}) == (200, {})
        _, answer = await call(peer, "history", {"channel": "log"})
        assert (answer["offset"], answer["messages"]) == (0, [])


async def test_the_answer_with_a_history_is_bounded_in_bytes(serve: Serve) -> None:
    served = await serve_api(serve, history={"log": HistoryLimits()})
    for number in range(40):
        served.hub.publish_event("log", f"{number:02}" + "x" * 60_000)
    seen: list[str] = []
    async with connected(served) as peer:
        while len(seen) < 40:
            _, answer = await call(peer, "history", {"channel": "log", "since": len(seen)})
            assert 1 <= len(answer["messages"]) <= 18
            seen += [each["data"][:2] for each in answer["messages"]]
    assert seen == [f"{number:02}" for number in range(40)]


async def test_the_members_of_a_channel_are_listed_and_counted(serve: Serve) -> None:
    served = await serve_api(
        serve,
        authenticator=by_user,
        presence={"room": PresenceSettings()},
        presence_info=lambda connection, channel: {"name": connection.user_id.upper()},
    )
    for user in ("a", "b", "a"):
        await (await connect_as(served, user)).subscribe("room")
    async with connected(served) as peer:
        status, answer = await call(peer, "presence", {"channel": "room"})
        assert (status, answer["connections"], answer["users"]) == (200, 3, 2)
        assert sorted(each["info"]["name"] for each in answer["members"]) == ["A", "A", "B"]
        _, answer = await call(peer, "presence", {"channel": "room", "limit": 1})
        assert (len(answer["members"]), answer["truncated"]) == (1, True)
        assert await call(peer, "presence_count", {"channel": "room"}) == (
            200,
            {"connections": 3, "users": 2},
        )


async def test_the_connections_of_a_user_are_listed(serve: Serve) -> None:
    served = await serve_api(serve, authenticator=by_user)
    clients = [await connect_as(served, user) for user in ("a", "b", "a")]
    await clients[2].subscribe("x")
    await clients[2].subscribe("c")
    async with connected(served) as peer:
        status, answer = await call(peer, "connections_of_user", {"userId": "a"})
        assert (status, answer["total"]) == (200, 2)
        assert [each["id"] for each in answer["connections"]] == [1, 3]
        assert answer["connections"][1]["subscriptions"] == ["c", "x"]
        assert answer["connections"][1]["droppedMessages"] == 0
        assert answer["connections"][1]["remoteAddress"].startswith("127.0.0.1:")
        _, answer = await call(peer, "connections_of_user", {"userId": "a", "limit": 1})
        assert (answer["total"], len(answer["connections"])) == (2, 1)
        _, answer = await call(peer, "connections_of_user", {"userId": "c"})
        assert answer == {"connections": [], "total": 0}


async def test_a_user_is_subscribed_and_unsubscribed(serve: Serve) -> None:
    served = await serve_api(serve, authenticator=by_user)
    clients = [await connect_as(served, user) for user in ("a", "b", "a")]
    await clients[1].sync()
    body = {"userId": "a", "channel": "news"}
    async with connected(served) as peer:
        assert await call(peer, "subscribe_user", body) == (200, {"connections": 2})
        await call(peer, "publish", {"channel": "news", "data": 1})
        assert (await clients[0].receive())["data"] == (await clients[2].receive())["data"] == 1
        assert await call(peer, "unsubscribe_user", body) == (200, {"connections": 2})
        assert await call(peer, "unsubscribe_user", body) == (200, {"connections": 0})
    assert served.hub.channels == ()


async def test_a_user_and_a_connection_are_disconnected(serve: Serve) -> None:
    served = await serve_api(serve, authenticator=by_user)
    clients = [await connect_as(served, user) for user in ("a", "b", "a")]
    await clients[1].sync()
    async with connected(served) as peer:
        body = {"userId": "a", "reason": "logged out"}
        assert await call(peer, "disconnect_user", body) == (200, {"connections": 2})
        for client in (clients[0], clients[2]):
            await client.socket.wait_closed()
            # The clients of wshub do not come back after this code.
            assert (client.socket.close_code, client.socket.close_reason) == (1008, "logged out")
        by_id = {"connectionId": 2, "code": 1000}
        assert await call(peer, "disconnect", by_id) == (200, {})
        await clients[1].socket.wait_closed()
        assert clients[1].socket.close_code == 1000
        assert await refused(peer, "disconnect", by_id) == (404, "connection_not_found")


async def test_the_statistics_have_the_names_of_hub_stats(serve: Serve) -> None:
    served = await serve_api(serve)
    client = await served.connect()
    await client.subscribe("a")
    async with connected(served) as peer:
        status, answer = await call(peer, "stats")
    assert (status, answer["clients"], answer["subscribers"]) == (200, 1, 1)
    assert answer["ignoredFrames"] == 0


REFUSALS: list[tuple[str, Any, int, str]] = [
    ("publish", {"channel": "no channel"}, 400, "invalid_channel"),
    ("publish", {"channel": "process:a:b"}, 400, "invalid_process_id"),
    ("publish", {"channel": "a", "processId": "a:b"}, 400, "invalid_process_id"),
    ("publish", {"channel": "wshub:x"}, 403, "publish_denied"),
    ("publish", {"channel": "a", "type": "subscribed"}, 400, "reserved_type"),
    ("publish", {"channel": "a", "data": "x" * 65_500}, 413, "message_too_large"),
    ("publish", b'{"channel": "a", "data": "\\ud800"}', 400, "invalid_json"),
    ("publish", b'{"channel": "a", "data": 1e999}', 400, "invalid_field"),
    ("broadcast", {"type": "history_cleared"}, 400, "reserved_type"),
    ("send_to_user", {"userId": "a", "type": "published"}, 400, "reserved_type"),
    ("history", {"channel": "a"}, 400, "invalid_history"),
    ("history", {"channel": "no channel"}, 400, "invalid_channel"),
    ("clear_history", {"channel": "a"}, 400, "invalid_history"),
    ("presence", {"channel": "a"}, 404, "no_presence"),
    ("presence_count", {"channel": "no channel"}, 400, "invalid_channel"),
    ("subscribe_user", {"userId": "a", "channel": "/"}, 400, "invalid_channel"),
    ("subscribe_user", {"userId": "a", "channel": "secret"}, 403, "subscription_denied"),
    ("subscribe_user", {"userId": "a", "channel": "wshub:private:x"}, 403, "subscription_denied"),
    ("subscribe_user", {"userId": "a", "channel": "second"}, 409, "subscription_limit"),
    ("disconnect_user", {"userId": "a", "code": 1006}, 400, "invalid_close"),
    ("disconnect_user", {"userId": "a", "reason": "x" * 124}, 400, "invalid_close"),
]


async def test_errors_of_the_hub_have_a_status_and_the_code_of_the_wire_protocol(
    serve: Serve,
) -> None:
    def authorize(connection: Connection, channel: str) -> bool:
        return channel != "secret"

    served = await serve_api(
        serve, authenticator=by_user, max_subscriptions=1, channel_authorizer=authorize
    )
    client = await connect_as(served, "a")
    await client.subscribe("first")
    async with connected(served) as peer:
        for operation, body, status, code in REFUSALS:
            assert await refused(peer, operation, body) == (status, code), (operation, body)
    assert served.hub.subscriber_count("first") == 1


async def test_published_messages_reach_other_hubs() -> None:
    exchange = MemoryExchange()
    config = HubConfig(max_message_bytes=2_000)
    async with (
        Hub(config) as hub,
        Hub(config) as there,
        MemoryBridge(hub, exchange),
        MemoryBridge(there, exchange),
        hub.serve("127.0.0.1", 0, http_app=hub.api(authenticate)) as server,
    ):
        client = await connect_in_memory(there)
        await there.subscribe(there.connections[0], "news")
        async with AsyncExitStack() as stack, connected(Served(hub, server, stack)) as peer:
            assert await call(peer, "publish", {"channel": "news", "data": 1}) == (200, {})
            assert await call(peer, "broadcast", {"data": 2}) == (200, {})
        assert {(await client.receive()).data for _ in range(2)} == {1, 2}


async def test_the_connection_of_a_client_survives_a_thousand_requests(serve: Serve) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        for number in range(1_000):
            assert (await call(peer, "publish", {"channel": "a", "data": number}))[0] == 200
    assert served.hub.stats().messages == 1_000
    await eventually(lambda: not served.sockets)


@pytest.mark.parametrize("wrong", [None, "a key", {"key": "user"}])
def test_an_api_needs_an_authenticator(wrong: Any) -> None:
    with pytest.raises(InvalidConfigError, match="needs a function that returns an AuthResult"):
        Hub().api(wrong)
