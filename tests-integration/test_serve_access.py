"""`wshub serve` with credentials: who may connect, to which channels, and as which user."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from redis_servers import run_server
from support import PATIENCE_SECONDS, WireClient, wshub
from test_serve_api import serve
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wshub_auth import hash_api_key

SECRET = "a secret of at least thirty-two bytes"
ADA = hash_api_key("key of ada")


@asynccontextmanager
async def connected(address: str, credential: str) -> AsyncIterator[WireClient]:
    """Connect with a credential in the header, unless it is empty."""
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    url = f"{address.replace('http', 'ws')}ws"
    async with connect(url, additional_headers=headers, proxy=None) as socket:
        yield WireClient(socket)


def token(user: str, **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + 600, **claims}, SECRET)


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    path.write_text(f"{ADA} ada\n{hash_api_key('key of the api')} [publish manage read] app\n")
    return str(path)


async def refused(address: str, credential: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with connected(address, credential):
            pass
    return caught.value.response.status_code


async def test_only_clients_with_a_credential_connect(keys: str) -> None:
    options = ("--client-keys", keys, "--jwt-secret", SECRET, "--jwt-audience", "wshub")
    async with serve(*options) as address:
        async with connected(address, "key of ada") as client:
            await client.sync()
        async with connected(address, token("bob", aud="wshub")) as client:
            await client.sync()
        for credential in ("", "wrong", token("bob"), token("bob", aud="other")):
            assert await refused(address, credential) == 401
        async with httpx.AsyncClient(trust_env=False) as http:
            # The page has no credentials. The other paths have rules of their own.
            assert (await http.get(address)).status_code == 404
            assert (await http.get(f"{address}sse?channel=a")).status_code == 401
            assert (await http.get(f"{address}readyz")).status_code == 200


async def test_clients_subscribe_to_their_channels_only() -> None:
    options = ("--jwt-secret", SECRET, "--allowed-channels", "public:**,user:{user_id}")
    ada = token("ada", channels=["team:red"])
    async with serve(*options) as address, connected(address, ada) as client:
        for channel in ("public:news", "user:ada", "team:red"):
            await client.subscribe(channel)
        for channel in ("user:bob", "team:blue", "other"):
            await client.send(type="subscribe", channel=channel, id=1)
            assert (await client.receive())["code"] == "subscription_denied"


async def test_an_operation_on_a_user_reaches_the_connections_on_all_workers(keys: str) -> None:
    with run_server() as redis:
        options = (
            "--redis",
            redis.url,
            "--workers",
            "3",
            "--api-keys",
            keys,
            "--client-keys",
            keys,
        )
        async with serve(*options) as address, AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(connected(address, "key of ada")) for _ in range(12)
            ]
            for client in clients:
                await client.sync()
            headers = {"Authorization": "Bearer key of the api"}
            async with httpx.AsyncClient(trust_env=False, headers=headers) as http:

                async def call(operation: str, **body: Any) -> int:
                    response = await http.post(f"{address}api/v1/{operation}", json=body)
                    assert response.status_code == 200, response.text
                    number: int = response.json()["connections"]
                    return number

                # One worker has fewer connections than there are, so the bridge reached the others.
                assert await call("send_to_user", userId="ada", data="hello") < 12
                for client in clients:
                    assert (await client.receive())["data"] == "hello"
                await call("subscribe_user", userId="ada", channel="news")
                await call("send_to_user", userId="ada", data="subscribed")
                for client in clients:
                    assert (await client.receive())["data"] == "subscribed"
                await call("disconnect_user", userId="ada", reason="logged out")
            for client in clients:
                with pytest.raises(ConnectionClosed) as caught:
                    await client.receive()
                assert caught.value.rcvd is not None
                assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "logged out")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--jwt-secret", "too short"), "jwt_secret: the secret for HS256 must have at least"),
        (("--jwt-keys-url", "http://id.example/keys"), "jwt_keys_url: "),
        (("--jwt-audience", "a", "--jwt-issuer", "b"), "jwt_issuer needs jwt_secret or jwt_keys_u"),
        (("--allowed-channels", "a:**:b"), "allowed_channels: "),
        (("--client-keys", "/nowhere/keys"), "the file of client_keys cannot be read: "),
    ],
)
async def test_a_wrong_credential_setting_is_explained(flags: tuple[str, ...], text: str) -> None:
    async with wshub("serve", "--port", "0", *flags) as process:
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"wshub: {text}" in errors.decode()
    assert "too short" not in errors.decode()
