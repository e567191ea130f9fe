"""Subscriptions: confirmed, refused and ended."""

import asyncio

from client_contract.interface import QUICK, ClientUnderTest, FailedError
from client_contract.observing import failure_of, holds, named, names, wait_event, wait_until
from client_contract.servers import Peer, run_hub, run_script
from wshub_core import Connection


class SubscriptionContract:
    """Subscriptions: confirmed, refused and ended."""

    async def test_subscribe_is_confirmed_or_refused(self, client: ClientUnderTest) -> None:
        asked: list[str] = []

        def authorize(_: Connection, channel: str) -> bool:
            asked.append(channel)
            return channel != "secret"

        async with run_hub(channel_authorizer=authorize) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("open")
            error = await failure_of(client.subscribe_confirmed("secret"))
            assert error.name == "SubscriptionRefusedError"
            assert error.fields["channel"] == "secret"
            assert error.fields["code"] == "subscription_denied"
            assert running.hub.channels == ("open",)
            # A refused channel is not requested again.
            await running.drop()
            await wait_event(client, "reconnect")
            assert asked == ["open", "secret", "open"]
            assert all(each["event"] != "message" for each in await client.events())

    async def test_subscribe_is_confirmed_across_reconnects(self, client: ClientUnderTest) -> None:
        async def script(peer: Peer) -> None:
            if peer.number == 1:
                await peer.open()
                await peer.read()
                return
            frames = {each["type"]: each for each in await peer.read_to_ping()}
            # A hub that answers ids also answers the id of a ping.
            pong = {
                "type": "pong",
                **({"id": frames["ping"]["id"]} if "id" in frames["ping"] else {}),
            }
            await peer.send(
                {"type": "subscribed", "channel": "a", "id": frames["subscribe"]["id"]}, pong
            )
            await peer.serve()

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a")
            assert named(await client.events(), "disconnect")
            assert len(server.peers) == 2

    async def test_subscribe_works_with_a_hub_that_answers_no_ids(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.open()
            while True:
                frame = await peer.read()
                if frame["type"] == "wait for more":
                    more = [(await peer.read())["type"] for _ in range(3)]
                    assert more == ["ping", "subscribe", "ping"]
                    await peer.send(
                        {"type": "pong"},
                        {"type": "error", "data": "Subscribe: invalid process ID"},
                        {"type": "pong"},
                    )
                elif frame["type"] == "ping":
                    await peer.send({"type": "pong"})
                elif frame["type"] == "subscribe" and frame["channel"] == "secret":
                    await peer.send(
                        {"type": "error", "data": "Subscribe: subscription unauthorised"}
                    )
                elif frame["type"] == "subscribe" and frame["channel"] == "too much":
                    await peer.send({"type": "error", "data": "subscription limit exceeded"})

        async with run_script(script, plain=True) as server:
            await client.start(server.url, plain=True, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a")
            error = await failure_of(client.subscribe_confirmed("secret"))
            assert (error.name, error.fields["channel"]) == ("SubscriptionRefusedError", "secret")
            await client.subscribe_confirmed("b")
            error = await failure_of(client.publish("a", 1))
            assert error.name == "PublishRefusedError"
            # A pong for the application is delivered, although all pongs of this hub look alike.
            await client.send({"type": "ping"})
            await wait_event(client, "message")
            await client.subscribe_confirmed("c")
            # This pong does not confirm requests that the client sends after the ping.
            await client.send({"type": "wait for more"})
            await client.send({"type": "ping"})
            error = await failure_of(client.subscribe_confirmed("process:x"))
            assert error.name == "SubscriptionRefusedError"
            messages = await wait_event(client, "message", 2)
            assert [each["type"] for each in messages] == ["pong", "pong"]

    async def test_refusal_that_no_call_waits_for_is_reported(
        self, client: ClientUnderTest
    ) -> None:
        async with run_hub(channel_authorizer=lambda *_: False) as running:
            await client.start(running.url, **QUICK)
            await client.subscribe("secret")
            [error] = await wait_event(client, "error")
            assert holds(
                error, name="SubscriptionRefusedError", channel="secret", code="subscription_denied"
            )
            assert "subscription unauthorised" in error["text"]
            await wait_event(client, "connect")
            assert sorted(names(await client.events())) == ["connect", "error"]

    async def test_refusal_of_some_by_a_hub_that_answers_no_ids_means_the_right_ones(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            if peer.number == 1:
                await peer.open()
                await peer.socket.close(1013, "retry-after: 1")
            while True:
                frame = await peer.read()
                if frame["type"] == "ping":
                    await peer.send({"type": "pong"})
                elif frame["type"] == "subscribe" and frame["channel"].startswith("secret"):
                    await peer.send(
                        {"type": "error", "data": "Subscribe: subscription unauthorised"}
                    )
                elif frame["type"] == "go away":
                    return

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "disconnect")
            channels = ("news", "secret.1", "logs", "secret.2")
            outcomes = [asyncio.create_task(client.subscribe_confirmed(each)) for each in channels]
            results = await asyncio.gather(*outcomes, return_exceptions=True)
            refusals = [each.fields["channel"] for each in results if isinstance(each, FailedError)]
            assert refusals == ["secret.1", "secret.2"]
            assert results[0] is results[2] is None
            # A refused channel is not requested again.
            await client.send({"type": "go away"})
            await wait_event(client, "reconnect", 2)
            frames = server.peers[2].frames
            assert {each["channel"] for each in frames if each["type"] == "subscribe"} == {
                *("news", "logs")
            }

    async def test_refusal_of_all_by_a_hub_that_answers_no_ids_keeps_the_order(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frames = await peer.read_to_ping()
            for frame in frames:
                if frame["type"] == "subscribe":
                    text = f"Subscribe: {frame['channel']}"
                    await peer.send({"type": "error", "data": text})
            await peer.send({"type": "error", "data": "Subscribe: nothing of the client's own"})
            await peer.send({"type": "pong"})
            if peer.number == 1:
                await peer.socket.close(1013, "retry-after: 1")
            await peer.serve()

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "disconnect")
            outcomes = [
                asyncio.create_task(client.subscribe_confirmed(each)) for each in ("a", "b")
            ]
            for channel, outcome in zip(("a", "b"), outcomes, strict=True):
                error = await failure_of(outcome)
                assert channel in error.fields["text"]
            # There is one refusal more than there are subscriptions, so the last one is a message.
            messages = await wait_event(client, "message", 2)
            assert {each["data"] for each in messages} == {"Subscribe: nothing of the client's own"}

    async def test_unsubscribe_ends_a_subscription(self, client: ClientUnderTest) -> None:
        async with run_hub() as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a")
            await client.subscribe_confirmed("b")
            await client.unsubscribe("a")
            await client.unsubscribe("a")
            await client.unsubscribe("never subscribed")
            await wait_until(lambda: running.hub.channels == ("b",))
            await running.drop()
            await wait_event(client, "reconnect")
            assert "a" not in running.hub.channels
            await client.subscribe_confirmed("a")
            assert set(running.hub.channels) == {"a", "b"}

    async def test_unsubscribe_before_the_answer_ends_a_subscription(
        self, client: ClientUnderTest
    ) -> None:
        asked = asyncio.Event()
        may_answer = asyncio.Event()

        async def authorize(_: Connection, channel: str) -> bool:
            asked.set()
            await may_answer.wait()
            return channel == "open"

        async with run_hub(channel_authorizer=authorize) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("secret")
            await asked.wait()
            await client.unsubscribe("secret")
            await client.subscribe("open")
            await client.unsubscribe("open")
            may_answer.set()
            await running.sync(client)
            # The ended subscriptions are neither refused nor confirmed.
            assert names(await client.events()) == ["connect", "message"]
            assert running.hub.channels == ()
