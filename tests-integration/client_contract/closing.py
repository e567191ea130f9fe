"""Closing a client, and callbacks that raise."""

import asyncio

from client_contract.interface import QUICK, ClientUnderTest
from client_contract.observing import failure_of, names, wait_event, wait_until
from client_contract.servers import Peer, ScriptedServer, run_hub, run_script, serve_normally
from wshub_core import Message


class ClosingContract:
    """Closing a client, and callbacks that raise."""

    async def test_close_while_connected(self, client: ClientUnderTest) -> None:
        ends: list[int | None] = []

        async def script(peer: Peer) -> None:
            await peer.open()
            try:
                await peer.serve()
            finally:
                ends.append(peer.socket.close_code)

        async with run_script(script) as server:
            await client.start(server.url, heartbeat_interval=0.1, pong_timeout=5.0, **QUICK)
            await wait_event(client, "connect")
            await asyncio.gather(client.close(), client.close())
            await client.close()
            events = await client.events()
            assert names(events) == ["connect", "disconnect", "end"]
            assert events[-1]["name"] is None
            await wait_until(lambda: ends)
            assert ends == [1000]
            assert await client.state() == "disconnected"
            assert (await failure_of(client.send({"type": "x"}))).name == "ClientClosedError"
            assert (await failure_of(client.publish("x", 1))).name == "ClientClosedError"
            assert (await failure_of(client.subscribe_confirmed("x"))).name == "ClientClosedError"
            await no_dial_comes(server)
            assert await client.events() == events

    async def test_close_directly_after_the_start(self, client: ClientUnderTest) -> None:
        async with run_script(serve_normally) as server:
            await client.start(server.url, **QUICK)
            await client.close()
            # The client may have been connected already.
            assert set(names(await client.events())) <= {"connect", "disconnect", "end"}
            assert names(await client.events())[-1] == "end"
            await no_dial_comes(server)

    async def test_close_while_the_hub_is_silent(self, client: ClientUnderTest) -> None:
        async with run_script(Peer.stay_silent) as server:
            await client.start(server.url, **QUICK)
            waiting = asyncio.create_task(failure_of(client.subscribe_confirmed("a")))
            await wait_until(lambda: server.peers and server.peers[0].frames)
            await client.close()
            assert await client.events() == [{"event": "end", "name": None}]
            assert (await waiting).name == "ClientClosedError"
            await no_dial_comes(server)

    async def test_close_between_two_dials(self, client: ClientUnderTest) -> None:
        async def script(peer: Peer) -> None:
            await peer.open()
            await peer.socket.close(1013, "retry-after: 1")

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "disconnect")
            await client.close()
            assert names(await client.events()) == ["connect", "error", "disconnect", "end"]
            await no_dial_comes(server, 1.2)

    async def test_close_after_the_end(self, client: ClientUnderTest) -> None:
        async with run_hub(check_origin=lambda _: False) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "end")
            await client.close()
            assert names(await client.events()) == ["error", "end"]

    async def test_callbacks_that_raise_change_nothing(self, client: ClientUnderTest) -> None:
        async with run_hub() as running:
            await client.start(running.url, faulty=True, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a")
            running.hub.publish("a", Message(type="event", data=1))
            await wait_event(client, "message", 1)
            await running.drop()
            await wait_event(client, "reconnect")
            running.hub.publish("a", Message(type="event", data=2))
            await wait_event(client, "message", 2)
            await client.close()
            assert names(await client.events()) == [
                *("connect", "message", "error", "disconnect"),
                *("reconnect", "message", "disconnect", "end"),
            ]


async def no_dial_comes(server: ScriptedServer, seconds: float = 0.2) -> None:
    """Wait longer than every backoff of these tests, and check that no dial has come."""
    before = len(server.peers)
    await asyncio.sleep(seconds)
    assert len(server.peers) == before
