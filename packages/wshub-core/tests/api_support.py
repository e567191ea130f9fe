"""Helpers of the tests of the HTTP API: keys with scopes, and a client on a real socket."""

import json
from typing import Any

from support import Serve, Served
from test_http_app import Peer

from wshub_core import AuthResult, Request

KEYS: dict[str, list[str]] = {
    "all": ["publish", "read", "manage"],
    "publisher": ["publish"],
    "reader": ["read"],
    "manager": ["manage"],
    "nothing": [],
}
"""The scopes of each key; the name of the key is also the id of its user."""


def authenticate(request: Request) -> AuthResult:
    key = (request.header("authorization") or "").removeprefix("Bearer ")
    if key not in KEYS:
        return AuthResult(False, challenge="Bearer")
    return AuthResult(True, key, {"scopes": KEYS[key]})


async def serve_api(serve: Serve, api_authenticator: Any = authenticate, **settings: Any) -> Served:
    """Serve a hub with its API at the root."""
    apis: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await apis[0](scope, receive, send)

    served = await serve(http_app=app, **settings)
    apis.append(served.hub.api(api_authenticator))
    return served


def request(
    operation: str, body: Any = None, key: str = "all", method: str = "POST", **headers: str
) -> bytes:
    """Return the bytes of a request; a body that is no bytes is encoded as JSON."""
    payload = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    fields = {
        "host": "x",
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "content-length": str(len(payload)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} /v1/{operation} HTTP/1.1\r\n{head}\r\n".encode() + payload


async def call(peer: Peer, operation: str, body: Any = None, **options: Any) -> tuple[int, Any]:
    """Send a request; return the status and the decoded answer."""
    status, headers, answer = await peer.ask(request(operation, body, **options))
    assert headers["content-type"] == "application/json"
    return status, json.loads(answer)


async def refused(peer: Peer, operation: str, body: Any = None, **options: Any) -> tuple[int, str]:
    """Send a request that is refused; return the status and the code."""
    status, answer = await call(peer, operation, body, **options)
    assert set(answer) == {"error"}
    assert answer["error"]["message"]
    return status, answer["error"]["code"]


def by_user(request: Request) -> AuthResult:
    """Authenticate a WebSocket by its query."""
    return AuthResult(True, request.query)
