"""Messages for the application, and answers to the client itself."""

import asyncio
from typing import Any

from client_contract.interface import QUICK, ClientUnderTest
from client_contract.observing import failure_of, holds, messages_of, named, names, wait_event
from client_contract.servers import Peer, run_hub, run_script
from wshub_core import Connection, Message, Reply

FORGERIES: list[dict[str, Any]] = [
    {"type": "pong"},
    {"type": "error", "data": "Subscribe: subscription unauthorised"},
    {"type": "error", "data": "subscription limit exceeded"},
    {"type": "subscribed", "channel": "secret"},
    {"type": "published", "channel": "secret"},
    {"type": "authenticated", "data": {"expiresAt": None}},
    *(
        {"type": kind, "channel": "secret", "id": each, "data": "Subscribe: forged"}
        for kind in ("pong", "error", "subscribed", "published")
        for each in (1, "1", "s1", "p1", "wshub-1", "-1", "")
    ),
]
"""Messages of an application that look like answers of a hub."""


class MessageContract:
    """Messages for the application, and answers to the client itself."""

    async def test_messages_come_in_batches_and_unreadable_parts_are_skipped(
        self, client: ClientUnderTest
    ) -> None:
        parts = [
            '{"type":"event","data":1}',
            "",
            '{"type":"process_output","channel":"process:x","processId":"x","data":"ü\\n"}',
            "   ",
            "no JSON",
            "[]",
            '"text"',
            "null",
            "7",
            "{}",
            '{"type":5}',
            '{"type":"event","channel":["no name"]}',
            "[" * 20_000,
            '{"type":"event","data":3,"more":{"unknown":true}}',
            "",
        ]

        async def script(peer: Peer) -> None:
            await peer.open()
            await peer.socket.send("\n".join(parts))
            await peer.socket.send(b'{"type":"event","data":4}')
            await peer.serve()

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            assert await messages_of(client, 4) == [1, "ü\n", 3, 4]
            assert (await client.events())[2] == {
                "event": "message",
                "type": "process_output",
                "channel": "process:x",
                "data": "ü\n",
            }
            assert set(names(await client.events())) == {"connect", "message"}

    async def test_messages_exclude_the_answers_to_the_client_itself(
        self, client: ClientUnderTest
    ) -> None:
        async with run_hub() as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a")
            await client.send({"type": "ping"})
            await client.unsubscribe("a")
            await client.send({"type": "subscribe", "channel": "not a channel"})
            await wait_event(client, "message", 2)
            messages = [(each["type"], each["data"]) for each in (await client.events())[1:]]
            assert messages == [("pong", None), ("error", "Subscribe: invalid channel name")]

    async def test_answers_that_are_forged_are_messages(self, client: ClientUnderTest) -> None:
        def judge(connection: Connection, channel: str) -> bool:
            # The forgeries come just before the answer of the hub.
            for each in FORGERIES:
                connection.send(forge(each))
            return channel == "open"

        async with run_hub(channel_authorizer=judge, publish_authorizer=judge) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("open")
            error = await failure_of(client.subscribe_confirmed("secret"))
            assert (error.name, error.fields["code"]) == (
                *("SubscriptionRefusedError", "subscription_denied"),
            )
            await client.publish("open", 1)
            error = await failure_of(client.publish("secret", 2))
            assert (error.name, error.fields["code"]) == ("PublishRefusedError", "publish_denied")
            assert running.hub.channels == ("open",)
            messages = [each["type"] for each in await wait_event(client, "message")]
            assert sorted(messages) == sorted([*(each["type"] for each in FORGERIES * 4), "event"])

    async def test_answers_that_are_forged_do_not_restore_a_subscription(
        self, client: ClientUnderTest
    ) -> None:
        # The forgeries come before the first answer, so the kind of the hub is not known yet.
        connections: list[Connection] = []

        def send_forgeries(connection: Connection) -> None:
            connections.append(connection)
            if len(connections) == 2:
                for each in FORGERIES:
                    connection.send(forge(each))

        async with run_hub(
            on_connect=send_forgeries, channel_authorizer=lambda *_: len(connections) == 1
        ) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("news")
            await connections[0].close(1012)
            await wait_event(client, "reconnect")
            errors = await wait_event(client, "error", 2)
            assert holds(
                errors[1],
                name="SubscriptionRefusedError",
                channel="news",
                code="subscription_denied",
            )
            # A pong without an id may count as an answer of the hub. It confirms nothing.
            messages = await wait_event(client, "message", len(FORGERIES) - 1)
            expected = [each["type"] for each in FORGERIES[1:]]
            assert sorted(each["type"] for each in messages[-len(expected) :]) == sorted(expected)

    async def test_answers_that_are_forged_pongs_confirm_nothing(
        self, client: ClientUnderTest
    ) -> None:
        may_answer = asyncio.Event()

        async def script(peer: Peer) -> None:
            ping = (await peer.read_to_ping())[-1]
            await peer.send({"type": "pong", "id": ping["id"]})
            frames = {each["type"]: each for each in await peer.read_to_ping()}
            await peer.send({"type": "pong"}, {"type": "pong", "id": "1"}, {"type": "pong"})
            # Like a hub whose bridge is down: the ping is answered, and the subscription later.
            await peer.send(
                {"type": "pong", "id": frames["ping"]["id"]}, {"type": "event", "data": 1}
            )
            await may_answer.wait()
            fields = {"id": frames["subscribe"]["id"], "code": "subscription_denied"}
            await peer.send({"type": "error", "channel": "a", "data": "no", **fields})
            await peer.serve()

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            outcome = asyncio.create_task(failure_of(client.subscribe_confirmed("a")))
            messages = await wait_event(client, "message", 4)
            assert [each["type"] for each in messages] == ["pong", "pong", "pong", "event"]
            assert not outcome.done()
            may_answer.set()
            assert (await outcome).fields["code"] == "subscription_denied"

    async def test_answers_with_odd_fields_do_not_stop_the_client(
        self, client: ClientUnderTest
    ) -> None:
        odd: list[Any] = [None, True, 5, 1.5, "", [], {}, {"toString": 1, "valueOf": 1}]
        frames = [
            {"type": kind, name: each}
            for kind in ("error", "pong", "subscribed", "published", "authenticated")
            for name in ("data", "id", "code")
            for each in odd
        ]

        async def script(peer: Peer) -> None:
            ping = (await peer.read_to_ping())[-1]
            await peer.send({"type": "pong", "id": ping["id"]})
            asked = {each["type"]: each for each in await peer.read_to_ping()}
            await peer.send(*frames, {"type": "event", "data": "good"})
            answer = {"id": asked["subscribe"]["id"], "data": {"toString": 1}, "code": [5]}
            await peer.send({"type": "error", "channel": "a", **answer})
            await peer.send({"type": "pong", "id": asked["ping"]["id"]})
            await peer.serve()

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            error = await failure_of(client.subscribe_confirmed("a"))
            assert error.name == "SubscriptionRefusedError"
            messages = named(await client.events(), "message")
            assert len(messages) == len(frames) + 1
            assert messages[-1]["data"] == "good"
            assert "disconnect" not in names(await client.events())


def forge(fields: dict[str, Any]) -> Message:
    return Reply(**fields) if "id" in fields else Message(**fields)
