"""The site of the ``wshub`` command: a hub, its server and the endpoints beside it."""

import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from wshub_core.admin.app import AdminApp
from wshub_core.cli.access import read_access
from wshub_core.cli.settings import ServeSettings
from wshub_core.cli.standard_streams import print_lines
from wshub_core.endpoints.routes import Routes
from wshub_core.hub import Hub
from wshub_core.page.page import LivePage
from wshub_core.transports.asgi_messages import ASGIApp
from wshub_core.transports.server import Server
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import WSHubError
from wshub_core.values.http import Request, Response
from wshub_core.values.origins import is_loopback_host, name_of_host, origin_allowed

_ALL_ADDRESSES = ("", "0.0.0.0", "::")
"""Hosts that stand for all addresses: a server can listen at them, a client cannot connect."""

_FORBIDDEN = Response(
    HTTPStatus.FORBIDDEN,
    b"Forbidden: this server listens on loopback, and answers requests for localhost only. "
    b"Behind a proxy, name the origin of the site in allowed_origins.\n",
)


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
        # A proxy on this machine passes the host of its own pages on.
        origins = self.hub.config.allowed_origins or ()
        self._hosts = {urlsplit(origin).hostname for origin in origins} - {None}

    def admits(self, request: Request) -> bool:
        """Return whether the ``Host`` header of a request may name this server."""
        host = request.header("host")
        # All browsers send the header. Health checks of load balancers that speak HTTP/1.0 do not.
        return (
            not self.is_local
            or host is None
            or is_loopback_host(host)
            or name_of_host(host) in self._hosts
        )

    def _check_origin(self, request: Request) -> bool:
        config = self.hub.config
        return self.admits(request) and origin_allowed(
            request, config.allowed_origins, require_origin=config.require_origin
        )


class Site(NamedTuple):
    """A running site.

    Attributes:
        hub: The hub.
        server: The server of the hub.
        admin_address: The address of the admin view, with the key if it is a new one; None without
            the view.
    """

    hub: Hub
    server: Server
    admin_address: str | None


@asynccontextmanager
async def open_site(
    settings: ServeSettings, sockets: Sequence[socket.socket] = ()
) -> AsyncIterator[Site]:
    """Run a hub and its server, with the live page and the endpoints of the settings."""
    access = read_access(settings)
    guard = _LoopbackGuard(
        authenticator=access.clients,
        channel_authorizer=access.channels,
        **settings.hub_settings(),
    )
    hub = guard.hub
    # The page has no credentials, so a hub that requires some would refuse it.
    page = LivePage(hub) if access.clients is None else None

    def admit(request: Request) -> Response | None:
        return None if guard.admits(request) else _FORBIDDEN

    health = hub.health(needs_bridge=settings.ready_needs_redis)
    apps: dict[str, ASGIApp] = {"/healthz": health, "/readyz": health, "/sse": hub.sse()}
    if settings.metrics:
        apps["/metrics"] = new_metrics(hub)
    if access.api is not None:
        apps["/api/*"] = hub.api(access.api)
    routes = Routes(apps, _answer_nothing if page is None else page.process_request, admit)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(hub)
        if settings.redis is not None:
            await stack.enter_async_context(new_bridge(hub, settings.redis))
            if page is not None:
                await page.join()
        if sockets:
            server = hub.serve(sockets=sockets, http_app=routes)
        else:
            server = hub.serve(settings.host, settings.port, http_app=routes)
        await stack.enter_async_context(server)
        # From the bound addresses: a host name does not show whether it stands for loopback.
        # A server at a unix socket has no address, and web pages cannot reach it.
        local = [is_loopback_host(_bracket(each)) for each in server.addresses]
        guard.is_local = bool(local) and all(local)
        admin_address = None
        if settings.admin:
            admin_address = await stack.enter_async_context(_open_admin(hub, settings))
        yield Site(hub, server, admin_address)


def _answer_nothing(request: Request) -> None:
    pass


@asynccontextmanager
async def _open_admin(hub: Hub, settings: ServeSettings) -> AsyncIterator[str]:
    """Serve the admin view; yield its address."""
    key = settings.admin_key or secrets.token_urlsafe(24)
    app = AdminApp(hub, key)
    host, port = settings.admin_host, settings.admin_port
    async with hub.serve(host, port, path=None, http_app=app) as server:
        address = address_of(host, server.port)
        # A key of the settings is a secret that the operator knows.
        yield address if settings.admin_key else f"{address}#key={key}"


def print_addresses(host: str, port: int) -> None:
    """Print the address of the page and the address for clients."""
    address = address_of(host, port)
    print_lines(address, f"ws{address.removeprefix('http')}ws")


def address_of(host: str, port: int) -> str:
    """Return the address at which a browser on this machine finds the page."""
    name = "localhost" if host in _ALL_ADDRESSES else _bracket(host)
    return f"http://{name}:{port}/"


def _bracket(host: str) -> str:
    """Return a host in the form for a URL, with brackets around an IPv6 address."""
    return f"[{host}]" if ":" in host else host


def new_metrics(hub: Hub) -> ASGIApp:
    """Return the metrics for Prometheus, which need an optional package."""
    try:
        return hub.metrics()
    except ImportError as exc:
        raise WSHubError("metrics needs prometheus-client: install wshub-core[metrics]") from exc


def new_bridge(hub: Hub, url: str) -> Any:
    """Return a bridge of the package wshub-redis."""
    try:
        return import_module("wshub_redis").RedisBridge(hub, url)
    except ModuleNotFoundError as exc:
        raise WSHubError(
            "redis needs the package wshub-redis: install it beside wshub-core"
        ) from exc
