"""The health checks of a hub, for load balancers and service managers."""

from http import HTTPStatus
from typing import Protocol

import msgspec

from wshub_core.bridge.state import BridgeState
from wshub_core.transports.asgi_messages import Receive, Scope, Send, is_http, send_response
from wshub_core.values.http import METHOD_NOT_ALLOWED, NOT_FOUND, Response


class CheckedHub(Protocol):
    """The parts of a hub that the health checks read."""

    @property
    def is_accepting(self) -> bool:
        """True if the hub accepts clients."""

    @property
    def bridge_state(self) -> BridgeState | None:
        """The state of the bridge; None without one."""


class _Health(msgspec.Struct):
    """The body of a response.

    Attributes:
        ok: Whether the check has succeeded.
        reason: The reason for a failure; empty without one.
        bridge: The state of the bridge; None without one.
    """

    ok: bool
    reason: str
    bridge: BridgeState | None


class HealthApp:
    """An ASGI application with the health checks of a hub; see `Hub.health`.

    Args:
        hub: The hub.
        needs_bridge: Whether the hub is ready only while its bridge works.
    """

    def __init__(self, hub: CheckedHub, *, needs_bridge: bool) -> None:
        self._hub = hub
        self._needs_bridge = needs_bridge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an HTTP request, as ASGI specifies; refuse a WebSocket."""
        if not await is_http(scope, receive, send):
            return
        await send_response(send, "http", self._respond(scope["path"], scope["method"]))

    def _respond(self, path: str, method: str) -> Response:
        # The application may be mounted at its paths, or at any path above them.
        name = path.rpartition("/")[2]
        if name not in ("healthz", "readyz"):
            return NOT_FOUND
        if method not in ("GET", "HEAD"):
            return METHOD_NOT_ALLOWED
        reason = self._find_problem() if name == "readyz" else ""
        health = _Health(not reason, reason, self._hub.bridge_state)
        return Response(
            HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK,
            msgspec.json.encode(health) + b"\n",
            {"Cache-Control": "no-store"},
            "application/json",
        )

    def _find_problem(self) -> str:
        """Return the reason why the hub is not ready; empty if it is."""
        if not self._hub.is_accepting:
            return "the hub accepts no clients"
        if self._needs_bridge and self._hub.bridge_state in (None, BridgeState.DOWN):
            return "the bridge is down"
        return ""
