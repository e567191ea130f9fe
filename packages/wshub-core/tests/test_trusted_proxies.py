"""The address of a client behind proxies: nobody but a trusted proxy chooses it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Serve
from test_http_app import GET, connected, respond
from websockets.asyncio.client import unix_connect

from wshub_core import Compression, Hub, HubConfig, InvalidConfigError
from wshub_core.transports.asgi_messages import Receive, Scope, Send
from wshub_core.values.trusted_proxies import TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48", "127.0.0.1", "unix"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1:5000", ["192.0.2.7"], "192.0.2.7:0"),
        ("10.0.0.1:5000", ["192.0.2.7:443"], "192.0.2.7:443"),
        ("10.0.0.1:5000", ["[2001:db8:2::1]:443"], "[2001:db8:2::1]:443"),
        ("10.0.0.1:5000", ["2001:db8:2::1"], "[2001:db8:2::1]:0"),
        ("10.0.0.1:5000", ["[2001:db8:2::1]"], "[2001:db8:2::1]:0"),
        ("[2001:db8:1::9]:5000", ["192.0.2.7"], "192.0.2.7:0"),
        ("[::ffff:10.0.0.1]:5000", ["::ffff:192.0.2.7"], "192.0.2.7:0"),
        ("", ["192.0.2.7"], "192.0.2.7:0"),
        # Behind two proxies. The client has written the first address.
        ("127.0.0.1:5000", ["203.0.113.1, 192.0.2.7, 10.0.0.2"], "192.0.2.7:0"),
        ("127.0.0.1:5000", ["203.0.113.1,192.0.2.7", "10.0.0.2"], "192.0.2.7:0"),
        # All are proxies: the first one is the client, such as a health check.
        ("127.0.0.1:5000", ["10.0.0.3, 10.0.0.2"], "10.0.0.3:0"),
        # Not from a proxy, or without a usable header.
        ("192.0.2.1:5000", ["203.0.113.1"], "192.0.2.1:5000"),
        ("10.0.0.1:5000", [], "10.0.0.1:5000"),
        ("10.0.0.1:5000", [""], "10.0.0.1:5000"),
        ("10.0.0.1:5000", ["unknown"], "10.0.0.1:5000"),
        ("10.0.0.1:5000", ["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2:0"),
        ("10.0.0.1:5000", ["192.0.2.7, 10.0.0.2\n"], "192.0.2.7:0"),
        ("10.0.0.1:5000", ["1.2.3.4:port"], "1.2.3.4:0"),
        ("10.0.0.1:5000", ["1.2.3.4:" + "9" * 5_000], "1.2.3.4:0"),
    ],
)
def test_the_last_address_that_is_no_proxy_is_the_client(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert PROXIES.find_client(peer, forwarded) == client


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    nobody = TrustedProxies([])
    assert nobody.find_client("127.0.0.1:1", ["192.0.2.7"]) == "127.0.0.1:1"
    assert nobody.find_client("", ["192.0.2.7"]) == ""


@given(st.lists(st.text(max_size=40), max_size=4))
def test_a_client_chooses_no_address_in_front_of_a_proxy(forged: list[str]) -> None:
    """Whatever a client writes, a proxy adds the address of its peer behind it."""
    assert PROXIES.find_client("10.0.0.1:5000", [*forged, "192.0.2.7"]) == "192.0.2.7:0"


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.300", "proxy.example", "", "UNIX"])
def test_a_value_that_is_no_network_is_an_error(network: str) -> None:
    with pytest.raises(ValueError, match=r"host bits|does not appear"):
        TrustedProxies([network])


@pytest.mark.parametrize("compressed", [False, True])  # two parsers read handshakes
async def test_a_connection_has_the_address_of_its_client(serve: Serve, compressed: bool) -> None:
    served = await serve(
        trusted_proxies=["127.0.0.0/8"], compression=Compression() if compressed else None
    )
    await served.connect(additional_headers={"X-Forwarded-For": "203.0.113.1, 192.0.2.7"})
    assert [each.remote_address for each in served.hub.connections] == ["192.0.2.7:0"]


async def test_nobody_is_trusted_by_default(serve: Serve) -> None:
    served = await serve()
    await served.connect(additional_headers={"X-Forwarded-For": "192.0.2.7"})
    (connection,) = served.hub.connections
    assert connection.remote_address.startswith("127.0.0.1:")


async def test_a_request_has_the_address_of_its_client(serve: Serve) -> None:
    clients = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clients.append(scope["client"])
        await respond(send, b"")

    served = await serve(trusted_proxies=["127.0.0.1"], http_app=app)
    async with connected(served) as peer:
        for header in (b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-For: 2001:db8::1"):
            await peer.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
        await peer.ask(GET)
    assert clients[:2] == [("192.0.2.7", 0), ("2001:db8::1", 0)]
    assert clients[2][0] == "127.0.0.1"


async def test_the_client_of_a_proxy_at_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    async with (
        Hub(HubConfig(trusted_proxies=["unix"])) as hub,
        hub.serve(unix=path),
        unix_connect(
            str(path), "ws://localhost/ws", additional_headers={"X-Forwarded-For": "192.0.2.7"}
        ),
    ):
        assert [each.remote_address for each in hub.connections] == ["192.0.2.7:0"]


@pytest.mark.parametrize("networks", ["127.0.0.1", ["proxy.example"]])
def test_a_wrong_setting_is_explained(networks: Any) -> None:
    with pytest.raises(InvalidConfigError, match=r"HubConfig\.trusted_proxies"):
        HubConfig(trusted_proxies=networks)
