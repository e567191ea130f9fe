"""The heartbeat of a client."""

from client_contract.interface import QUICK, ClientUnderTest
from client_contract.observing import names, wait_event, wait_until
from client_contract.servers import Peer, run_script, serve_normally


class HeartbeatContract:
    """The heartbeat of a client."""

    async def test_heartbeat_finds_a_dead_connection(self, client: ClientUnderTest) -> None:
        async def script(peer: Peer) -> None:
            await peer.open()
            if peer.number == 1:
                await peer.stay_silent()
            await peer.serve()

        async with run_script(script) as server:
            await client.start(server.url, heartbeat_interval=0.2, pong_timeout=0.3, **QUICK)
            await wait_event(client, "reconnect")
            assert names(await client.events()) == ["connect", "error", "disconnect", "reconnect"]
            assert [each["type"] for each in server.peers[0].frames] == ["ping", "ping"]

    async def test_heartbeat_keeps_a_quiet_connection(self, client: ClientUnderTest) -> None:
        async with run_script(serve_normally) as server:
            await client.start(server.url, heartbeat_interval=0.05, pong_timeout=5.0, **QUICK)
            await wait_until(lambda: server.peers and len(server.peers[0].frames) >= 6)
            # The pongs for the pings of the client are not delivered.
            assert names(await client.events()) == ["connect"]
