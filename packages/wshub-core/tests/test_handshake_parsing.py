"""The fast path for handshakes against `websockets`: what it accepts, `websockets` accepts too."""

import asyncio
from random import Random
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.http11 import Request
from websockets.server import ServerProtocol

from wshub_core.transports.handshake import Handshake, read_handshake
from wshub_core.transports.http_messages import read_request
from wshub_core.values.trusted_proxies import TrustedProxies

KEY = "dGhlIHNhbXBsZSBub25jZQ=="

CHROME = [
    "Host: example.com:8000",
    "Connection: Upgrade",
    "Pragma: no-cache",
    "Cache-Control: no-cache",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
    "Upgrade: websocket",
    "Origin: http://example.com:8000",
    "Sec-WebSocket-Version: 13",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: de,en;q=0.9",
    "Cookie: session=abc; theme=dark",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    "Sec-WebSocket-Protocol: wshub.v1, wshub.bearer, abc",
]
FIREFOX = ["Connection: keep-alive, Upgrade" if each == CHROME[1] else each for each in CHROME]
LIBRARY = [
    "Host: localhost",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
]


def request(lines: list[str], first: str = "GET /ws?a=1 HTTP/1.1") -> bytes:
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


class NoSocket:
    """A transport without an address."""

    def get_extra_info(self, name: str) -> None:
        return None


def compare(data: bytes) -> Handshake | None:
    """Read a request; check that `websockets` reads the same, and responds the same."""
    handshake = read_handshake(data)
    if handshake is None:
        return None
    protocol = ServerProtocol()
    protocol.receive_data(data[: handshake.end])
    (event,) = protocol.events_received()
    assert isinstance(event, Request)
    read = read_request(event, cast("asyncio.Transport", NoSocket()), TrustedProxies([]))
    assert (event.method, event.path, read.headers) == ("GET", handshake.target, handshake.headers)
    response = protocol.accept(event)
    assert response.status_code == 101, response
    response.headers["Sec-WebSocket-Protocol"] = "wshub.v1"
    ours, theirs = (
        [line for line in each.split(b"\r\n") if not line.startswith(b"Date: ")]
        for each in (handshake.accept("wshub.v1"), response.serialize())
    )
    assert ours == theirs
    return handshake


@pytest.mark.parametrize("lines", [CHROME, FIREFOX, LIBRARY])
def test_usual_handshakes_take_the_fast_path(lines: list[str]) -> None:
    handshake = compare(request(lines) + b"early frames")
    assert handshake is not None
    assert handshake.end == len(request(lines))
    assert b"\r\nDate: " in handshake.accept(None)
    assert b"Sec-WebSocket-Protocol" not in handshake.accept(None)


@pytest.mark.parametrize(
    "change",
    [
        "Connection: close",
        "Connection: upgrade-insecure",
        "Connection:",
        "Connection: Upgrade, ,",
        "Upgrade: h2c",
        "Upgrade: websocket, h2c",
        "Upgrade:",
        "Sec-WebSocket-Version: 8",
        "Sec-WebSocket-Version: 13, 8",
        "Sec-WebSocket-Key: short",
        f"Sec-WebSocket-Key: {KEY}{KEY}",
        f"Sec-WebSocket-Key: {KEY[:-2]}AA",
        "Sec-WebSocket-Key:",
        "Upgrade : websocket",
        " Upgrade: websocket",
        "Upgrade",
        "Upgrade: web\x00socket",
        "Upgrade: websocket\r",
        "Host: ä",
    ],
)
def test_other_requests_do_not_take_the_fast_path(change: str) -> None:
    name = change.partition(":")[0].strip()
    lines = [change if line.startswith(f"{name}:") else line for line in LIBRARY]
    assert read_handshake(request(lines)) is None


@pytest.mark.parametrize(
    "line",
    [
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Sec-WebSocket-Protocol: a b",
        "Sec-WebSocket-Protocol:",
        " folded",
        "no colon",
        "X: " + "x" * 5_000,
    ],
)
def test_an_additional_line_can_exclude_the_fast_path(line: str) -> None:
    assert read_handshake(request([*LIBRARY, line])) is None


def test_two_origins_do_not_take_the_fast_path() -> None:
    assert read_handshake(request([*LIBRARY, "Origin: http://a", "Origin: http://b"])) is None


@pytest.mark.parametrize(
    "first",
    [
        "POST /ws HTTP/1.1",
        "HEAD /ws HTTP/1.1",
        "GET /ws HTTP/1.0",
        "GET /ws HTTP/2",
        "GET  /ws HTTP/1.1",
        "GET /ws  HTTP/1.1",
        "GET /ä HTTP/1.1",
        "get /ws HTTP/1.1",
        "GET /ws",
    ],
)
def test_other_request_lines_do_not_take_the_fast_path(first: str) -> None:
    assert read_handshake(request(LIBRARY, first)) is None


def test_an_incomplete_request_does_not_take_the_fast_path() -> None:
    data = request(LIBRARY)
    assert all(read_handshake(data[:size]) is None for size in range(len(data)))


lines = st.lists(
    st.sampled_from(
        [*CHROME, *CHROME, "Connection: ,Upgrade", "Upgrade: WebSocket", "X:", "X: \t a "]
    )
    | st.text(alphabet='aU:-, \t;="ä', max_size=12),
    max_size=18,
)


@settings(max_examples=300)
@given(
    base=st.sampled_from([CHROME, FIREFOX, LIBRARY]),
    more=lines,
    order=st.randoms(use_true_random=False),
)
def test_what_the_fast_path_accepts_is_valid(
    base: list[str], more: list[str], order: Random
) -> None:
    mixed = [*base, *more]
    order.shuffle(mixed)
    compare(request(mixed))


@settings(max_examples=500)
@given(
    base=st.sampled_from([CHROME, FIREFOX, LIBRARY]),
    changes=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), min_size=1, max_size=3),
)
@example(base=LIBRARY, changes=[])
def test_what_the_fast_path_accepts_of_damaged_requests_is_valid(
    base: list[str], changes: list[tuple[int, int]]
) -> None:
    data = bytearray(request(base))
    for place, byte in changes:
        data[place % len(data)] = byte
    compare(bytes(data))
