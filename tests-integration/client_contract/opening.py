"""Opening a connection: the dial, the restored subscriptions, and the first answer."""

import asyncio
import socket
from typing import Any

from client_contract.interface import QUICK, ClientUnderTest
from client_contract.observing import messages_of, named, names, wait_event, wait_state, wait_until
from client_contract.servers import Peer, run_hub, run_script
from wshub_core import Message


class OpeningContract:
    """Opening a connection: the dial, the restored subscriptions, and the first answer."""

    async def test_states_follow_the_connection(self, client: ClientUnderTest) -> None:
        may_answer = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.read_to_ping()
            await may_answer.wait()
            await peer.send({"type": "pong"})
            await peer.read()
            await peer.socket.close(1013, "retry-after: 60")

        async with run_script(script) as server:
            await client.start(server.url)
            await wait_until(lambda: server.peers and server.peers[0].frames)
            assert await client.state() == "connecting"
            may_answer.set()
            await wait_state(client, "connected")
            await client.send({"type": "go away"})
            await wait_event(client, "disconnect")
            assert await client.state() == "disconnected"
            await client.close()
            assert await client.state() == "disconnected"

    async def test_open_sends_the_subscriptions_and_then_a_ping(
        self, client: ClientUnderTest
    ) -> None:
        may_answer = asyncio.Event()
        opening: list[dict[str, Any]] = []

        async def script(peer: Peer) -> None:
            if peer.number == 1:
                await peer.open()
                for _ in range(2):
                    await peer.read_to_ping()
                    await peer.send({"type": "pong"})
                return
            frames = await peer.read_to_ping()
            # A client may begin with a probe, which shows whether the hub answers ids.
            opening.extend(each for each in frames if each["type"] != "unsubscribe")
            await may_answer.wait()
            await peer.send({"type": "pong"})
            await peer.serve()

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("news")
            await client.subscribe("news")
            await client.subscribe("process:x")
            await wait_until(lambda: opening)
            assert [(each["type"], each.get("channel"), each.get("data")) for each in opening] == [
                ("subscribe", "news", "news"),
                ("subscribe", "process:x", "process:x"),
                ("ping", None, None),
            ]
            ids = [each["id"] for each in opening[:2]]
            assert len(set(ids)) == 2
            assert all(isinstance(each, str | int) for each in ids)
            assert await client.state() == "connecting"
            assert named(await client.events(), "reconnect") == []
            may_answer.set()
            await wait_event(client, "reconnect")

    async def test_open_fails_when_a_server_sends_without_end_and_answers_nothing(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            for _ in range(130):
                await peer.send({"type": "event", "data": "x" * 300_000})
                await asyncio.sleep(0)
            await peer.stay_silent()

        async with run_script(script) as server:
            await client.start(server.url, max_attempts=0, **QUICK)
            [end] = await wait_event(client, "end")
            assert end["name"] == "RetriesExhaustedError"
            assert len(server.peers) == 1

    async def test_connect_comes_once_then_reconnect_and_early_messages_come_after_them(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            if peer.number == 2:
                return
            await peer.read_to_ping()
            await peer.send({"type": "event", "data": f"early {peer.number}"})
            await peer.send({"type": "pong"}, {"type": "event", "data": f"late {peer.number}"})
            if peer.number == 3:
                await peer.serve()

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await messages_of(client, 4)
            events = [each for each in await client.events() if each["event"] != "error"]
            assert names(events) == [
                *("connect", "message", "message", "disconnect"),
                *("reconnect", "message", "message"),
            ]
            messages = [each["data"] for each in named(events, "message")]
            assert messages == ["early 1", "late 1", "early 3", "late 3"]
            assert named(events, "reconnect") == [{"event": "reconnect", "attempts": 2}]

    async def test_restore_requests_each_subscription_once(self, client: ClientUnderTest) -> None:
        async with run_hub() as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            for channel in ("a", "b", "a"):
                await client.subscribe_confirmed(channel)
            for count in (1, 2):
                await running.drop()
                await wait_event(client, "reconnect", count)
                # The subscriptions are in place before the event, so this message arrives.
                assert running.hub.channels == ("a", "b")
                running.hub.publish("a", Message(type="event", data=count))
                await wait_event(client, "message", count)
            await running.sync(client)
            assert [each["data"] for each in named(await client.events(), "message")] == [
                1,
                2,
                None,
            ]

    async def test_restore_works_through_a_restart_of_the_hub(
        self, client: ClientUnderTest
    ) -> None:
        async with run_hub() as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a")
        await wait_event(client, "disconnect")
        port = int(running.url.split(":")[2].removesuffix("/ws"))
        async with run_hub(port) as running:
            [reconnect] = await wait_event(client, "reconnect")
            assert reconnect["attempts"] >= 1
            running.hub.publish("a", Message(type="event", data="here again"))
            assert await messages_of(client, 1) == ["here again"]

    async def test_silent_server_is_a_failed_dial(self, client: ClientUnderTest) -> None:
        async with run_script(Peer.stay_silent) as server:
            await client.start(server.url, open_timeout=0.5, max_attempts=1, **QUICK)
            [end] = await wait_event(client, "end")
            assert end["name"] == "RetriesExhaustedError"
            # On a busy machine a dial can end before the server notices it.
            assert len(server.peers) <= 2
            assert set(names(await client.events())) == {"error", "end"}

    async def test_silent_server_without_a_handshake_is_a_failed_dial(
        self, client: ClientUnderTest
    ) -> None:
        # The kernel accepts connections for a listening socket; no process reads from them.
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"ws://127.0.0.1:{listening.getsockname()[1]}/ws"
            await client.start(url, open_timeout=0.2, max_attempts=1, **QUICK)
            [end] = await wait_event(client, "end")
            assert end["name"] == "RetriesExhaustedError"
            assert len(named(await client.events(), "error")) >= 2
