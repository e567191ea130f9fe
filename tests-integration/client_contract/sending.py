"""Messages to the hub: published, sent and queued."""

import asyncio

from demo_process import free_port

from client_contract.interface import QUICK, ClientUnderTest
from client_contract.observing import eventually, failure_of, holds, named, names, wait_event
from client_contract.servers import Peer, run_hub, run_script
from wshub_core import Connection, Message


class SendingContract:
    """Messages to the hub: published, sent and queued."""

    async def test_publish_is_confirmed_or_refused(self, client: ClientUnderTest) -> None:
        async with run_hub(publish_authorizer=lambda _, channel: channel == "open") as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("open")
            await client.publish("open", {"n": 1})
            [message] = await wait_event(client, "message")
            assert holds(message, type="event", channel="open", data={"n": 1})
            error = await failure_of(client.publish("closed", 2))
            assert error.name == "PublishRefusedError"
            assert (error.fields["channel"], error.fields["code"]) == ("closed", "publish_denied")
            assert names(await client.events()) == ["connect", "message"]

    async def test_publish_is_refused_by_a_hub_without_client_publishing(
        self, client: ClientUnderTest
    ) -> None:
        heard: list[Message] = []
        async with run_hub() as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            error = await failure_of(client.publish("a", 1))
            assert (error.name, error.fields["code"]) == ("PublishRefusedError", "not_served")
        # This hub passes the message to its own callback and does not answer.
        async with run_hub(on_message=lambda _, message: heard.append(message)) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            error = await failure_of(client.publish("a", 1))
            assert (error.name, error.fields["code"]) == ("PublishRefusedError", "not_served")
            assert len(heard) == 1

    async def test_publish_fails_when_the_connection_is_lost(self, client: ClientUnderTest) -> None:
        async def script(peer: Peer) -> None:
            await peer.open()
            if peer.number == 1:
                await peer.read()
                await peer.socket.close(1013, "retry-after: 60")

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            assert (await failure_of(client.publish("a", 1))).name == "LostError"
            assert (await failure_of(client.publish("a", 1))).name == "NotConnectedError"

    async def test_send_needs_a_connection(self, client: ClientUnderTest) -> None:
        heard: list[Message] = []
        async with run_hub(on_message=lambda _, message: heard.append(message)) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.send({"type": "hello", "channel": "x", "data": [1]})
            await running.sync(client)
            assert [(each.type, each.channel, each.data) for each in heard] == [("hello", "x", [1])]
        await wait_event(client, "disconnect")
        error = await failure_of(client.send({"type": "hello"}))
        assert error.name == "NotConnectedError"

    async def test_send_queues_messages_and_keeps_their_order(
        self, client: ClientUnderTest
    ) -> None:
        heard: list[object] = []
        port = free_port()
        limits = {"messages": 100, "bytes": 10_000, "age": 60.0}
        await client.start(f"ws://127.0.0.1:{port}/ws", queue=limits, **QUICK)
        for number in range(20):
            await client.send({"type": "count", "data": number})
        async with run_hub(
            port, on_message=lambda _, message: heard.append(message.data)
        ) as running:
            await wait_event(client, "connect")
            for number in range(20, 40):
                await client.send({"type": "count", "data": number})
            await running.sync(client)
            assert heard == list(range(40))
            await running.drop()
            await wait_event(client, "reconnect")
            await running.sync(client)
            assert heard == list(range(40))

    async def test_send_refuses_messages_that_are_too_large_for_the_hub(
        self, client: ClientUnderTest
    ) -> None:
        async with run_hub(publish_authorizer=lambda *_: True) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            for size in (65_500, 65_440, 65_536):
                error = await failure_of(client.publish("open", "x" * size))
                assert error.name == "MessageTooLargeError"
            error = await failure_of(client.send({"type": "text", "data": "x" * 65_536}))
            assert error.name == "MessageTooLargeError"
            await client.publish("open", "x" * 65_400)
            assert names(await client.events()) == ["connect"]

    async def test_queue_bounds_drop_the_oldest_messages(self, client: ClientUnderTest) -> None:
        for limits, sent, kept in (
            ({"messages": 2, "bytes": 10_000, "age": 60.0}, 5, 2),
            ({"messages": 99, "bytes": 350, "age": 60.0}, 5, 3),
            ({"messages": 99, "bytes": 10_000, "age": 0.05}, 3, 0),
        ):
            heard: list[str] = []

            def hear(_: Connection, message: Message, heard: list[str] = heard) -> None:
                heard.append(str(message.data))

            port = free_port()
            await client.start(f"ws://127.0.0.1:{port}/ws", queue=limits, **QUICK)
            texts = [f"{number}" * 80 for number in range(sent)]
            for text in texts:
                await client.send({"type": "text", "data": text})
            if kept:
                await wait_dropped(client, sent - kept)
            else:
                await asyncio.sleep(0.1)  # until the last message is too old
            async with run_hub(port, on_message=hear) as running:
                await wait_event(client, "connect")
                await running.sync(client)
                assert heard == texts[sent - kept :]
            await wait_dropped(client, sent - kept)

    async def test_queue_bounds_report_the_messages_that_are_left_at_the_end(
        self, client: ClientUnderTest
    ) -> None:
        all_sent = asyncio.Event()

        async def leave(_: Peer) -> None:
            await all_sent.wait()

        async with run_script(leave) as server:
            await client.start(server.url, queue={"messages": 100}, max_attempts=0)
            for number in range(3):
                await client.send({"type": "number", "data": number})
            all_sent.set()
            await wait_event(client, "end")
            await wait_dropped(client, 3)


async def wait_dropped(client: ClientUnderTest, count: int) -> None:
    """Wait until the client has reported a number of dropped messages."""

    async def ask() -> int:
        errors = named(await client.events(), "error")
        return sum(each["count"] for each in errors if each["name"] == "DroppedError")

    await eventually(ask, lambda dropped: dropped == count)
