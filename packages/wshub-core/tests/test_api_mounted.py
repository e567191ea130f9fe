"""The HTTP API inside ASGI applications, on uvicorn and Hypercorn, and beside a hub."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from api_support import authenticate
from asgi_servers import ASGI_SERVERS, ASGIServer, uvicorn_server
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from wshub_core import Hub

HEADERS = {"Authorization": "Bearer all"}


@pytest.fixture(params=ASGI_SERVERS.values(), ids=list(ASGI_SERVERS))
def server(request: pytest.FixtureRequest) -> ASGIServer:
    chosen: ASGIServer = request.param
    return chosen


def in_starlette(hub: Hub, path: str) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with hub:
            yield

    routes = [WebSocketRoute("/ws", hub.asgi()), Mount(path, hub.api(authenticate))]
    return Starlette(routes=routes, lifespan=lifespan)


async def post(port: int, path: str, body: Any, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(
            f"http://127.0.0.1:{port}{path}", json=body, headers={**HEADERS, **headers}
        )


@pytest.mark.parametrize("path", ["/api", "/deep/er/api"])
async def test_the_api_works_at_any_mount_point(server: ASGIServer, path: str) -> None:
    hub = Hub()
    async with server(in_starlette(hub, path)) as port:
        async with connect(f"ws://127.0.0.1:{port}/ws", proxy=None) as socket:
            response = await post(port, f"{path}/v1/broadcast", {"data": 1})
            assert (response.status_code, response.json()) == (200, {})
            assert '"data":1' in str(await socket.recv())
        response = await post(port, f"{path}/v1/publish", {"chanel": 1})
        assert response.json()["error"]["code"] == "unknown_field"
        response = await post(port, f"{path}/v1/publish", {}, Authorization="x")
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        response = await post(port, f"{path}/v1/publish", {"channel": "a", "data": "x" * 70_000})
        assert response.status_code == 413
        async with httpx.AsyncClient(trust_env=False) as client:
            base = f"http://127.0.0.1:{port}{path}"
            document = await client.get(f"{base}/v1/openapi.json")
            assert document.json()["servers"] == [{"url": "."}]
            assert (await client.head(f"{base}/v1/openapi.json")).status_code == 200
            assert (await client.get(f"{base}/v1/publish")).status_code == 405


async def test_a_mount_point_ends_at_a_slash() -> None:
    # Starlette 2599: a path that only begins like the prefix of a proxy is not below it.
    async with Hub() as hub:
        api = hub.api(authenticate)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                for name in ("startup", "shutdown"):
                    await receive()
                    await send({"type": f"lifespan.{name}.complete"})
                return
            await api({**scope, "root_path": "/v"}, receive, send)

        async with uvicorn_server(app) as port:
            assert (await post(port, "/v1/stats", {})).status_code == 200
            assert (await post(port, "/v/v1/stats", {})).status_code == 200


async def test_a_websocket_is_refused(server: ASGIServer) -> None:
    hub = Hub()
    async with server(in_starlette(hub, "/api")) as port:
        with pytest.raises(InvalidStatus):
            async with connect(f"ws://127.0.0.1:{port}/api/v1/publish", proxy=None):
                pass
        assert (await post(port, "/api/v1/stats", {})).json()["connections"] == 0
