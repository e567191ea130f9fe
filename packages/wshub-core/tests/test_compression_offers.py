"""The negotiation of permessage-deflate: offers of clients, and the answers byte by byte."""

import pytest
from raw_client import HANDSHAKE, PING, RawClient, raw
from support import Serve, read_to_end

from wshub_core import Compression

ACCEPTED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
ACCEPTED_WITH_WINDOW = f"{ACCEPTED}; server_max_window_bits=12"


async def answer(client: RawClient, *offers: str) -> list[str]:
    """Send offers, each in its own header line; return the header lines of the answer."""
    head = await client.open(*(b"Sec-WebSocket-Extensions: " + each.encode() for each in offers))
    lines = head.decode().split("\r\n")
    return [line for line in lines if line.lower().startswith("sec-websocket-extensions")]


@pytest.mark.parametrize(
    ("offer", "expected"),
    [
        # Chrome, Firefox, curl
        ("permessage-deflate; client_max_window_bits", ACCEPTED),
        ("permessage-deflate", ACCEPTED),  # Safari 15 and later
        # The library websockets
        (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            ACCEPTED_WITH_WINDOW,
        ),
        # gorilla
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", ACCEPTED),
        # A load test tool and old clients
        ("permessage-deflate; client_no_context_takeover; client_max_window_bits", ACCEPTED),
        (
            "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
            ACCEPTED_WITH_WINDOW,
        ),
        ('permessage-deflate; server_max_window_bits="15"', ACCEPTED_WITH_WINDOW),
        ("permessage-deflate;server_max_window_bits=13", ACCEPTED_WITH_WINDOW),
        ("permessage-deflate; client_max_window_bits=8", ACCEPTED),
        ("  permessage-deflate  ;  client_max_window_bits = 10  ", ACCEPTED),
    ],
)
async def test_an_offer_is_accepted_without_context_takeover(
    serve: Serve, offer: str, expected: str
) -> None:
    async with raw(await serve(compression=Compression())) as client:
        assert await answer(client, offer) == [f"Sec-WebSocket-Extensions: {expected}"]


@pytest.mark.parametrize(
    "offer",
    [
        "x-webkit-deflate-frame",
        "x-webkit-deflate-frame; max_window_bits=15; no_context_takeover",
        "permessage-bzip2",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=11",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=012",
        "permessage-deflate; server_max_window_bits=+12",
        "permessage-deflate; server_max_window_bits=twelve",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate; client_max_window_bits=-1",
        "permessage-deflate; server_no_context_takeover=true",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15",
        "permessage-deflate; unknown",
        "permessage-deflate; Client_Max_Window_Bits",
    ],
)
async def test_an_offer_is_declined_and_the_client_served(serve: Serve, offer: str) -> None:
    async with raw(await serve(compression=Compression())) as client:
        assert await answer(client, offer) == []
        client.writer.write(PING)
        await client.expect_pong()


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        # The fallback that RFC 7692 section 7.1.2.1 recommends
        (
            ["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
            ACCEPTED,
        ),
        (
            ["permessage-deflate; server_max_window_bits=13, permessage-deflate"],
            ACCEPTED_WITH_WINDOW,
        ),
        (["permessage-deflate, permessage-deflate; server_max_window_bits=13"], ACCEPTED),
        (["permessage-bzip2, permessage-deflate; client_max_window_bits"], ACCEPTED),
        (["x-webkit-deflate-frame", "permessage-deflate"], ACCEPTED),
        (
            ["permessage-deflate; unknown", "permessage-deflate; server_max_window_bits=15"],
            ACCEPTED_WITH_WINDOW,
        ),
        ([], None),
    ],
)
async def test_the_first_acceptable_offer_is_accepted_once(
    serve: Serve, offers: list[str], expected: str | None
) -> None:
    async with raw(await serve(compression=Compression())) as client:
        lines = await answer(client, *offers)
        assert lines == ([f"Sec-WebSocket-Extensions: {expected}"] if expected else [])


@pytest.mark.parametrize("header", ["permessage-deflate; =", "permessage-deflate; a=b c", ";", "é"])
async def test_a_malformed_header_gets_400(serve: Serve, header: str) -> None:
    served = await serve(compression=Compression())
    async with raw(served) as client:
        line = f"\r\nSec-WebSocket-Extensions: {header}\r\n\r\n"
        client.writer.write(HANDSHAKE[:-4] + line.encode())
        assert (await read_to_end(client.reader)).startswith(b"HTTP/1.1 400 ")


async def test_without_the_setting_every_offer_is_declined(serve: Serve) -> None:
    async with raw(await serve()) as client:
        assert await answer(client, "permessage-deflate") == []
