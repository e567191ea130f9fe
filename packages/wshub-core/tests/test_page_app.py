"""The live page inside ASGI applications, on uvicorn and Hypercorn."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from asgi_servers import ASGI_SERVERS, ASGIServer, uvicorn_server
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from support import WireClient
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from wshub_core import Hub, HubConfig, LivePage, Message


@pytest.fixture(params=ASGI_SERVERS.values(), ids=list(ASGI_SERVERS))
def server(request: pytest.FixtureRequest) -> ASGIServer:
    chosen: ASGIServer = request.param
    return chosen


def in_fastapi(hub: Hub, path: str) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with hub:
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount(path, LivePage(hub).asgi())
    return app


class Stripping:
    """An application that mounts another and removes the prefix, as some frameworks do."""

    def __init__(self, app: Any, root: str) -> None:
        self._app = app
        self._root = root

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            path = scope["path"].removeprefix(self._root)
            scope = {**scope, "path": path, "root_path": self._root}
        await self._app(scope, receive, send)


async def fetch(port: int, path: str, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, f"http://127.0.0.1:{port}{path}")


async def check(port: int, root: str, hub: Hub) -> None:
    """Check that the page and its files are below a root, and that other paths give 404."""
    index = await fetch(port, f"{root}/")
    assert index.status_code == 200
    assert "page.js" in index.text
    assert index.headers["content-security-policy"].startswith("default-src 'self'")
    for name in ("page.js", "ansi.js", "wshub.js", "page.css"):
        response = await fetch(port, f"{root}/{name}")
        assert (response.status_code, len(response.content) > 100) == (200, True)
    hub.send_process_status("a", "running")
    channels = (await fetch(port, f"{root}/channels")).json()["channels"]
    assert [each["channel"] for each in channels] == ["process:a"]
    async with connect(f"ws://127.0.0.1:{port}{root}/ws", proxy=None) as socket:
        client = WireClient(socket)
        await client.subscribe("news")
        hub.publish("news", Message(type="event", data=1))
        assert (await client.receive())["data"] == 1
    assert (await fetch(port, f"{root}/ws")).status_code == 426
    for path in ("/other", "/ws/", "//", "/elsewhere", "/page.js/x"):
        assert (await fetch(port, f"{root}{path}")).status_code == 404


@pytest.mark.parametrize("root", ["/live", "/deep/er", "/ws", "/l%C3%ADve"])
async def test_the_page_can_be_mounted_in_an_application(server: ASGIServer, root: str) -> None:
    hub = Hub()
    async with server(in_fastapi(hub, root.replace("%C3%AD", "í"))) as port:
        await check(port, root, hub)


async def test_the_page_can_be_the_outermost_application(server: ASGIServer) -> None:
    hub = Hub()
    async with server(LivePage(hub).asgi()) as port:
        await check(port, "", hub)


async def test_the_page_can_be_mounted_by_a_framework_that_removes_the_prefix(
    server: ASGIServer,
) -> None:
    hub = Hub()
    async with server(Stripping(LivePage(hub).asgi(), "/live")) as port:
        await check(port, "/live", hub)
        response = await fetch(port, "/live")
        assert (response.status_code, response.headers["location"]) == (307, "./live/")


async def test_the_page_can_be_mounted_in_a_nested_mount(server: ASGIServer) -> None:
    hub = Hub()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with hub:
            yield

    inner = Mount("/inner", routes=[Mount("/live", LivePage(hub).asgi())])
    async with server(Starlette(routes=[inner], lifespan=lifespan)) as port:
        await check(port, "/inner/live", hub)


async def test_a_path_without_the_slash_redirects_to_the_page(server: ASGIServer) -> None:
    async with (
        server(in_fastapi(Hub(), "/live")) as port,
        httpx.AsyncClient(trust_env=False, follow_redirects=True) as client,
    ):
        response = await client.get(f"http://127.0.0.1:{port}/live")
        assert (response.status_code, response.url.path) == (200, "/live/")


async def test_the_page_redirects_itself_below_a_router_without_redirects() -> None:
    responses: list[Any] = []

    async def send(event: Any) -> None:
        responses.append(event)

    async def receive() -> Any:
        return {"type": "http.request"}

    for root, location in (("/live", b"./live/"), ("/a/b c:", b"./b%20c%3A/"), ("/x/", b"./x/")):
        responses.clear()
        scope = {
            "type": "http",
            "method": "GET",
            "path": root.rstrip("/"),
            "root_path": root,
            "query_string": b"",
            "headers": [],
        }
        async with Hub() as hub:
            await LivePage(hub).asgi()(scope, receive, send)
        assert responses[0]["status"] == 307
        assert (b"location", location) in responses[0]["headers"]


@pytest.mark.parametrize("path", ["/live/", "/live/page.js", "/live/channels"])
async def test_head_has_no_body_and_other_methods_are_not_allowed(
    server: ASGIServer, path: str
) -> None:
    async with server(in_fastapi(Hub(), "/live")) as port:
        expected = await fetch(port, path)
        head = await fetch(port, path, "HEAD")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(expected.content))
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            response = await fetch(port, path, method)
            assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


async def test_the_events_of_a_head_response_have_no_body() -> None:
    """Servers remove a body, so the test checks the events that the application sends."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "HEAD", "path": "/", "query_string": b"", "headers": []}
    async with Hub() as hub:
        await LivePage(hub).asgi()(scope, receive, send)
    assert [each.get("body") for each in sent] == [None, b""]


async def test_other_websocket_paths_and_foreign_origins_are_refused(server: ASGIServer) -> None:
    hub = Hub(HubConfig())
    async with server(in_fastapi(hub, "/live")) as port:
        for path, headers in (("/other", {}), ("/ws", {"Origin": "https://elsewhere.example"})):
            url = f"ws://127.0.0.1:{port}/live{path}"
            with pytest.raises(InvalidStatus, match="403"):
                await connect(url, proxy=None, additional_headers=headers)


async def test_the_page_works_behind_a_proxy_that_removes_a_prefix() -> None:
    """As with `uvicorn --root-path /prefix`; the links of the page are relative."""
    hub = Hub()
    app = in_fastapi(hub, "/live")

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            scope = {**scope, "root_path": "/prefix", "path": f"/prefix{scope['path']}"}
        await app(scope, receive, send)

    async with uvicorn_server(behind) as port:
        await check(port, "/live", hub)
        assert json.loads((await fetch(port, "/live/channels")).content)["channels"]
