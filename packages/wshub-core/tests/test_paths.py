"""Normalization of paths."""

import pytest
from support import WireClient
from websockets.asyncio.client import connect

from wshub_core import Hub, ServeError
from wshub_core.values.paths import normalize_path


@pytest.mark.parametrize(
    ("path", "normalized"),
    [
        ("/ws", "/ws"),
        ("/größe", "/gr%C3%B6%C3%9Fe"),
        ("/gr%c3%b6%C3%9fe", "/gr%C3%B6%C3%9Fe"),
        ("/my ws", "/my%20ws"),
        ("/%77s", "/ws"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2fb", "/a%2Fb"),
        ("/~user/a;b=c,d", "/~user/a;b=c,d"),
        ("/100%", "/100%"),
        ("/", "/"),
    ],
)
def test_a_path_is_normalized(path: str, normalized: str) -> None:
    assert normalize_path(path) == normalized
    assert normalize_path(normalized) == normalized


@pytest.mark.parametrize(
    ("path", "target"),
    [("/größe", "/gr%C3%B6%C3%9Fe"), ("/größe", "/gr%c3%b6%c3%9fe"), ("/my ws", "/my%20ws")],
)
async def test_clients_can_connect_to_a_path_that_needs_escaping(path: str, target: str) -> None:
    async with (
        Hub() as hub,
        hub.serve("127.0.0.1", 0, path=path) as server,
        connect(f"ws://127.0.0.1:{server.port}{target}", proxy=None) as socket,
    ):
        await WireClient(socket).sync()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ws", "use '/ws'"),
        ("", "use '/'"),
        ("/ws?token=1", "must not have a query: use '/ws'"),
        ("/ws#top", "must not have a fragment: use '/ws'"),
    ],
)
async def test_a_path_that_no_request_can_have_is_refused(path: str, text: str) -> None:
    async with Hub() as hub:
        with pytest.raises(ServeError, match=text.replace("?", ".")):
            hub.serve("127.0.0.1", 0, path=path)
