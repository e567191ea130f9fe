"""The site of the ``wshub`` command: a hub, its server and the endpoints beside it."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from importlib import import_module
from typing import Any

from wshub_core.endpoints.routes import Routes
from wshub_core.hub import Hub
from wshub_core.page.page import LivePage
from wshub_core.transports.asgi_messages import ASGIApp
from wshub_core.transports.server import Server
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import WSHubError
from wshub_core.values.http import Request, Response
from wshub_core.values.origins import is_loopback_host, origin_allowed

_ALL_ADDRESSES = ("", "0.0.0.0", "::")
"""Hosts that stand for all addresses: a server can listen at them, a client cannot connect."""

_FORBIDDEN = Response(HTTPStatus.FORBIDDEN, b"Forbidden: this page is for this machine\n")


class _LoopbackGuard:
    """Refuses requests of foreign web pages at a server that listens on loopback only.

    A foreign page can reach a local server by DNS rebinding: its own host name then resolves to a
    loopback address. Such requests have that name in the ``Host`` header.

    Attributes:
        is_local: Whether the server listens on loopback only.
        hub: The hub, which checks the same rule for WebSockets.
    """

    def __init__(self, **settings: Any) -> None:
        # True before the server listens, so that no early request passes.
        self.is_local = True
        self.hub = Hub(HubConfig(check_origin=self._check_origin, **settings))

    def admits(self, request: Request) -> bool:
        """Return whether the ``Host`` header of a request may name this server."""
        return not self.is_local or is_loopback_host(request.header("host"))

    def _check_origin(self, request: Request) -> bool:
        return self.admits(request) and origin_allowed(request, None)


@asynccontextmanager
async def open_site(
    host: str,
    port: int,
    redis: str | None = None,
    sockets: Sequence[socket.socket] = (),
    *,
    with_metrics: bool = False,
    **settings: Any,
) -> AsyncIterator[tuple[Hub, Server]]:
    """Run a hub and its server, with the live page and the wanted endpoints."""
    guard = _LoopbackGuard(**settings)
    hub = guard.hub
    page = LivePage(hub)

    def admit(request: Request) -> Response | None:
        return None if guard.admits(request) else _FORBIDDEN

    apps = {"/metrics": _metrics_of(hub)} if with_metrics else {}
    routes = Routes(apps, page.process_request, admit)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(hub)
        if redis is not None:
            await stack.enter_async_context(new_bridge(hub, redis))
            await page.join()
        if sockets:
            server = hub.serve(sockets=sockets, http_app=routes)
        else:
            server = hub.serve(host, port, http_app=routes)
        await stack.enter_async_context(server)
        # From the bound addresses: a host name does not show whether it stands for loopback.
        guard.is_local = all(is_loopback_host(_bracket(each)) for each in server.addresses)
        yield hub, server


def print_addresses(host: str, port: int) -> None:
    """Print the address of the page and the address for clients."""
    address = address_of(host, port)
    print(address, f"ws{address.removeprefix('http')}ws", sep="\n", flush=True)


def address_of(host: str, port: int) -> str:
    """Return the address at which a browser on this machine finds the page."""
    name = "localhost" if host in _ALL_ADDRESSES else _bracket(host)
    return f"http://{name}:{port}/"


def _bracket(host: str) -> str:
    """Return a host in the form for a URL, with brackets around an IPv6 address."""
    return f"[{host}]" if ":" in host else host


def _metrics_of(hub: Hub) -> ASGIApp:
    try:
        return hub.metrics()
    except ImportError as exc:
        raise WSHubError("--metrics needs prometheus-client: install wshub-core[metrics]") from exc


def new_bridge(hub: Hub, url: str) -> Any:
    """Return a bridge of the package wshub-redis."""
    try:
        return import_module("wshub_redis").RedisBridge(hub, url)
    except ModuleNotFoundError as exc:
        raise WSHubError(
            "--redis needs the package wshub-redis: install it beside wshub-core"
        ) from exc
