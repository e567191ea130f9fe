"""`wshub serve --api-keys`: the HTTP API of the command."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis_servers import run_server
from support import PATIENCE_SECONDS, WSHUB, WireClient, wshub
from websockets.asyncio.client import connect

from wshub_auth import hash_api_key


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    path.write_text(
        f"{hash_api_key('k1')} [publish read] backend\n{hash_api_key('k2')} without scopes\n"
    )
    return str(path)


@asynccontextmanager
async def serve(*options: str) -> AsyncIterator[str]:
    """Serve; give the address."""
    async with wshub("serve", "--port", "0", *options) as process:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield (await process.stdout.readline()).decode().strip()


async def post(address: str, operation: str, body: Any, key: str = "k1") -> httpx.Response:
    # A connection for each request: with workers, the requests reach several of them.
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        return await client.post(f"{address}api/v1/{operation}", json=body)


async def test_a_message_reaches_a_client_over_http(keys: str) -> None:
    async with serve("--api-keys", keys) as address:
        async with connect(f"{address.replace('http', 'ws')}ws", proxy=None) as socket:
            client = WireClient(socket)
            await client.subscribe("news")
            response = await post(address, "publish", {"channel": "news", "data": 1})
            assert (response.status_code, response.json()) == (200, {})
            assert (await client.receive())["data"] == 1
        assert (await post(address, "stats", {}, key="k2")).status_code == 403
        assert (await post(address, "stats", {}, key="k3")).status_code == 401
        # The page is still served beside the API.
        async with httpx.AsyncClient(trust_env=False) as page:
            assert (await page.get(address)).status_code == 200
            foreign = await page.post(f"{address}api/v1/stats", headers={"Host": "evil.example"})
            assert foreign.status_code == 403


async def test_without_keys_there_is_no_api() -> None:
    async with serve() as address:
        assert (await post(address, "publish", {"channel": "a"})).status_code in (404, 405)


@pytest.mark.parametrize("options", [(), ("--workers", "2", "--redis", "redis://localhost:1")])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "wshub: the file of api_keys cannot be read: "),
        (b"\xff\xfe", "wshub: the file of api_keys cannot be read: "),
        (b"# keys\nsecret-key backend", "line 2: expected sha256:<64 hex digits>"),
    ],
)
async def test_a_wrong_key_file_prints_one_line(
    tmp_path: Path, options: tuple[str, ...], content: bytes | None, text: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    async with wshub("serve", "--port", "0", "--api-keys", str(path), *options) as process:
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, errors = await process.communicate()
        assert process.returncode == 1
        assert text in errors.decode()
        assert errors.count(b"\n") == 1
        assert b"secret-key" not in errors


async def test_without_wshub_auth_the_error_names_the_package(keys: str) -> None:
    hide = "import sys; sys.modules['wshub_auth'] = None; " + WSHUB
    async with wshub("serve", "--api-keys", keys, code=hide) as process:
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, errors = await process.communicate()
    assert errors.decode() == (
        "wshub: api_keys needs the package wshub-auth: install it beside wshub-core\n"
    )


async def test_a_message_reaches_the_clients_of_all_workers(keys: str) -> None:
    with run_server() as redis:
        options = ("--redis", redis.url, "--workers", "2", "--api-keys", keys)
        async with serve(*options) as address, AsyncExitStack() as stack:
            url = f"{address.replace('http', 'ws')}ws"
            clients = [
                WireClient(await stack.enter_async_context(connect(url, proxy=None)))
                for _ in range(8)
            ]
            for client in clients:
                await client.send(type="subscribe", channel="news", id=1)
                assert (await client.receive())["type"] == "subscribed"
            for number in range(6):
                body = {"channel": "news", "data": number}
                assert (await post(address, "publish", body)).status_code == 200
            for client in clients:
                seen = {(await client.receive())["data"] for _ in range(6)}
                assert seen == set(range(6))


async def test_the_api_answers_while_the_redis_of_the_hub_is_away(keys: str) -> None:
    with run_server() as redis:
        async with serve("--redis", redis.url, "--api-keys", keys) as address:
            redis.kill()
            for number in range(3):
                body = {"channel": "news", "data": number}
                assert (await post(address, "publish", body)).status_code == 200
            # The histories of processes are in Redis.
            refused = await post(address, "history", {"channel": "process:x"})
            assert refused.status_code == 503
            assert json.loads(refused.content)["error"]["code"] == "history_unavailable"
