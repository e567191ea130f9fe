"""Failures: losses, the backoff between dials, and the errors that end a client."""

import asyncio
import time
from http import HTTPStatus

from demo_process import free_port
from websockets.asyncio.client import connect

from client_contract.interface import QUICK, ClientUnderTest
from client_contract.observing import holds, named, names, wait_event, wait_state, wait_until
from client_contract.servers import Peer, run_hub, run_script, serve_normally
from wshub_core import AuthError, AuthResult, Request


class RetryContract:
    """Failures: losses, the backoff between dials, and the errors that end a client."""

    async def test_lost_is_reported_and_one_dial_at_a_time_follows(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.open()
            if peer.number < 4:
                await peer.socket.close(1012, "restart")

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "disconnect", 3)
            events = (await client.events())[:4]
            assert names(events) == ["connect", "error", "disconnect", "reconnect"]
            assert holds(events[1], name="LostError", code=1012, reason="restart")
            assert server.most_at_once == 1

    async def test_backoff_never_exceeds_its_maximum(self, client: ClientUnderTest) -> None:
        async def script(peer: Peer) -> None:
            await peer.read()

        async with run_script(script) as server:
            # Without the bound these dials would take hours.
            await client.start(
                server.url, initial_backoff=1_000.0, max_backoff=0.05, backoff_multiplier=1_000.0
            )
            await wait_until(lambda: len(server.peers) >= 6)

    async def test_backoff_counts_short_connections_as_failures(
        self, client: ClientUnderTest
    ) -> None:
        async with run_script(Peer.open) as server:
            await client.start(server.url, max_attempts=2, stable_after=60.0, **QUICK)
            [end] = await wait_event(client, "end")
            assert end["name"] == "RetriesExhaustedError"
            assert len(server.peers) == 3
            assert names(await client.events()).count("disconnect") == 3

    async def test_backoff_forgets_failures_after_a_stable_connection(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.open()
            await asyncio.sleep(0.15)  # longer than stable_after

        async with run_script(script) as server:
            await client.start(server.url, max_attempts=1, stable_after=0.05, **QUICK)
            await wait_event(client, "reconnect", 3)
            assert named(await client.events(), "end") == []

    async def test_retry_after_in_a_close_reason_is_obeyed(self, client: ClientUnderTest) -> None:
        closed_at: list[float] = []

        async def script(peer: Peer) -> None:
            if peer.number == 3:
                await serve_normally(peer)
            if peer.number == 2:
                await peer.open()
            closed_at.append(time.monotonic())
            await peer.socket.close(1013, "retry-after: 1")

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "reconnect")
            for end, dial in zip(closed_at, server.dialed_at[1:], strict=True):
                assert dial - end > 0.95
            assert named(await client.events(), "end") == []

    async def test_retry_after_of_a_full_hub_is_obeyed(self, client: ClientUnderTest) -> None:
        async with run_hub(max_connections=1) as running, connect(running.url):
            await client.start(running.url, **QUICK)
            await wait_event(client, "error")
            # The hub asks for a wait of 5 seconds.
            await wait_state(client, "disconnected")
            assert names(await client.events()) == ["error"]

    async def test_restart_of_a_drained_hub_counts_no_failure(
        self, client: ClientUnderTest
    ) -> None:
        async with run_hub() as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await running.hub.drain_connections(0)
            lost, *_ = await wait_event(client, "error")
            assert holds(lost, name="LostError", code=1012, reason="retry-after: 0")

        async def script(peer: Peer) -> None:
            await peer.open()
            if peer.number < 6:
                await peer.socket.close(1012, "retry-after: 0")
            await peer.serve()

        async with run_script(script) as server:
            await client.start(server.url, max_attempts=1, stable_after=60.0, **QUICK)
            await wait_event(client, "reconnect", 5)
            assert named(await client.events(), "end") == []

    async def test_restart_waits_as_long_as_the_hub_asks(self, client: ClientUnderTest) -> None:
        closed_at: list[float] = []

        async def script(peer: Peer) -> None:
            await peer.open()
            if peer.number == 1:
                closed_at.append(time.monotonic())
                await peer.socket.close(1012, "retry-after: 1")
            await peer.serve()

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "reconnect")
            assert 0.95 < server.dialed_at[1] - closed_at[0] < 3

    async def test_restart_before_the_first_pong_is_a_failed_dial(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.socket.close(1012, "retry-after: 0")

        async with run_script(script) as server:
            await client.start(server.url, max_attempts=2, **QUICK)
            [end] = await wait_event(client, "end")
            assert end["name"] == "RetriesExhaustedError"
            assert len(server.peers) == 3

    async def test_exhausted_after_more_failures_than_max_attempts(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.read_to_ping()

        async with run_script(script) as server:
            await client.start(server.url, max_attempts=2, **QUICK)
            [end] = await wait_event(client, "end")
            assert end["name"] == "RetriesExhaustedError"
            assert len(server.peers) == 3
            events = await client.events()
            assert names(events)[-1] == "end"
            assert "connect" not in names(events)
            assert "disconnect" not in names(events)
            assert await client.state() == "disconnected"

    async def test_exhausted_when_no_server_listens(self, client: ClientUnderTest) -> None:
        await client.start(f"ws://127.0.0.1:{free_port()}/ws", max_attempts=1, **QUICK)
        [end] = await wait_event(client, "end")
        assert end["name"] == "RetriesExhaustedError"

    async def test_refused_for_authentication_ends_the_client(
        self, client: ClientUnderTest
    ) -> None:
        asked: list[Request] = []

        def authenticate(request: Request) -> AuthResult:
            asked.append(request)
            return AuthResult(False)

        async with run_hub(authenticator=authenticate) as running:
            await client.start(running.url, **QUICK)
            [end] = await wait_event(client, "end")
            events = await client.events()
            assert names(events) == ["error", "end"]
            for event in events:
                assert holds(event, name="RefusedError", status=HTTPStatus.UNAUTHORIZED)
            assert isinstance(end["reason"], str)
            assert len(asked) == 1

    async def test_refused_for_the_origin_ends_the_client(self, client: ClientUnderTest) -> None:
        async with run_hub(check_origin=lambda _: False) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "end")
            events = await client.events()
            assert names(events) == ["error", "end"]
            for event in events:
                assert holds(event, name="RefusedError", status=HTTPStatus.FORBIDDEN)

    async def test_refused_with_retry_after_is_a_failed_dial(self, client: ClientUnderTest) -> None:
        class BusyError(AuthError):
            retry_after = 1.0

        refused_at: list[float] = []
        accepted_at: list[float] = []

        def authenticate(_: Request) -> AuthResult:
            if not refused_at:
                refused_at.append(time.monotonic())
                return AuthResult(False, error=BusyError("the user database is away"))
            accepted_at.append(time.monotonic())
            return AuthResult(True, "alice")

        async with run_hub(authenticator=authenticate) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            assert names(await client.events()) == ["error", "connect"]
            assert accepted_at[0] - refused_at[0] > 0.95

    async def test_terminal_closes_end_the_client(self, client: ClientUnderTest) -> None:
        for code in (1002, 1007, 1008, 3003, 4500, 4999):

            async def script(peer: Peer, code: int = code) -> None:
                await peer.open()
                await peer.socket.close(code, "for good")

            async with run_script(script) as server:
                await client.start(server.url, heartbeat_interval=0.05, **QUICK)
                [end] = await wait_event(client, "end")
                assert holds(end, name="ClosedError", code=code, reason="for good")
                events = await client.events()
                assert names(events) == ["connect", "error", "disconnect", "end"]
                assert holds(events[1], name="ClosedError", code=code)
                assert len(server.peers) == 1
        await asyncio.sleep(0.1)  # a heartbeat would send a ping in this time
        assert await client.events() == events

    async def test_terminal_closes_are_no_other_codes(self, client: ClientUnderTest) -> None:
        codes = [1000, 1001, 1005, 1006, 1009, 1011, 1013, 3000, 3004, 4000, 4499]

        async def script(peer: Peer) -> None:
            await peer.open()
            if peer.number > len(codes):
                await peer.serve()
            code = codes[peer.number - 1]
            if code == 1005:
                peer.socket.protocol.send_close()
                peer.socket.send_data()
                await peer.socket.wait_closed()
            elif code == 1006:
                peer.socket.transport.abort()
            else:
                await peer.socket.close(code)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "reconnect", len(codes))
            errors = named(await client.events(), "error")
            assert [(each["name"], each["code"]) for each in errors] == [
                ("LostError", code) for code in codes
            ]
