"""The health checks of a hub."""

import asyncio
import json
from typing import Any

import pytest
from support import Serve, Served
from test_http_app import connected

from wshub_core import BridgeState, Hub
from wshub_core.testing import ManualClock, MemoryBridge, MemoryExchange, connect


async def check(hub: Hub, path: str, method: str = "GET", **options: Any) -> tuple[int, Any]:
    """Ask the application without a server; return the status and the body."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def receive() -> Any:
        raise AssertionError("the checks have no body")

    scope = {"type": "http", "path": path, "method": method}
    await hub.health(**options)(scope, receive, send)
    body = sent[1]["body"]
    return sent[0]["status"], json.loads(body) if body.startswith(b"{") else body.decode()


def healthy(bridge: str | None = None) -> dict[str, Any]:
    return {"ok": True, "reason": "", "bridge": bridge}


async def test_a_hub_is_ready_between_its_start_and_its_drain() -> None:
    hub = Hub(clock=ManualClock())
    refused = {"ok": False, "reason": "the hub accepts no clients", "bridge": None}
    assert await check(hub, "/readyz") == (503, refused)
    async with hub:
        assert await check(hub, "/readyz") == (200, healthy())
        for _ in range(2):
            await connect(hub)
        draining = asyncio.create_task(hub.drain_connections(60))
        await asyncio.sleep(0)
        assert await check(hub, "/readyz") == (503, refused)
        assert await check(hub, "/healthz") == (200, healthy())
    await draining
    assert await check(hub, "/readyz") == (503, refused)
    assert await check(hub, "/healthz") == (200, healthy())


class SteerableBridge(MemoryBridge):
    """A bridge whose state a test sets."""

    state = BridgeState.UP


async def test_the_state_of_the_bridge_counts_only_on_request() -> None:
    async with Hub() as hub:
        missing = {"ok": False, "reason": "the bridge is down", "bridge": None}
        assert await check(hub, "/readyz", needs_bridge=True) == (503, missing)
        bridge = SteerableBridge(hub, MemoryExchange())
        async with bridge:
            for state in BridgeState:
                bridge.state = state
                assert await check(hub, "/readyz") == (200, healthy(state))
                expected = 503 if state is BridgeState.DOWN else 200
                assert (await check(hub, "/readyz", needs_bridge=True))[0] == expected
                assert (await check(hub, "/healthz", needs_bridge=True))[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/healthz", "POST", 405),
        ("/readyz", "DELETE", 405),
        ("/", "GET", 404),
        ("/readyz/x", "GET", 404),
        ("/below/readyz", "GET", 200),
    ],
)
async def test_other_requests_are_refused(path: str, method: str, status: int) -> None:
    async with Hub() as hub:
        assert (await check(hub, path, method))[0] == status


async def test_the_checks_work_on_the_server_of_the_hub(serve: Serve) -> None:
    served: Served
    served = await serve(http_app=lambda *event: served.hub.health()(*event))
    async with connected(served) as peer:
        status, headers, body = await peer.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, json.loads(body)) == (200, healthy())
        assert headers["content-type"] == "application/json"
        assert headers["cache-control"] == "no-store"
