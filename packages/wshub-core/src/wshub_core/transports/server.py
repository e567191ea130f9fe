"""The hub's own server: its listening sockets and the end of its connections."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from functools import partial
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

from wshub_core.connections.running_hub import RunningHub
from wshub_core.forks import ForkGuard
from wshub_core.transports.asgi_messages import ASGIApp
from wshub_core.transports.listener import Listener
from wshub_core.transports.opening import OpeningHandshake
from wshub_core.transports.sockets import ServerSockets
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import ServeError
from wshub_core.values.http import ProcessRequest
from wshub_core.values.paths import normalize_path


class Server:
    """A listening server, made by `Hub.serve`; ``async with`` starts and closes it.

    Attributes:
        addresses: The IP addresses of the listening sockets; empty for a unix socket.
    """

    def __init__(
        self,
        get_hub: Callable[[], RunningHub],
        config: HubConfig,
        host: str | None,
        port: int | None,
        unix: str | os.PathLike[str] | None,
        sockets: Sequence[socket.socket],
        path: str | None,
        ssl: SSLContext | None,
        process_request: ProcessRequest | None,
        http_app: ASGIApp | None,
    ) -> None:
        if [unix is None, host is None or port is None, not sockets].count(False) != 1:
            raise ServeError(
                "serve needs a host and a port, or unix= with the path of a socket, or sockets="
            )
        if process_request is not None and http_app is not None:
            raise ServeError("serve takes process_request or http_app, not both")
        self._get_hub = get_hub
        self._config = config
        self._host = host or ""
        self._port = port or 0
        self._unix = None if unix is None else os.fspath(unix)
        self._sockets = sockets
        self._path = None if path is None else _check_path(path)
        self._ssl = ssl
        self._process_request = process_request
        self._http_app = http_app
        self._guard: ForkGuard | None = None
        self._accepted: ServerSockets | None = None
        self._listeners: list[Listener] = []
        self._unix_file: tuple[int, int] | None = None
        self._closed = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self.addresses: tuple[str, ...] = ()

    async def __aenter__(self) -> Self:
        self._guard = ForkGuard("server")
        accepted = ServerSockets(self._get_hub(), self._path, self._process_request, self._http_app)
        try:
            await self._listen(accepted)
        except OSError as exc:
            await self.close()
            if self._sockets:
                raise ServeError(f"cannot listen on the given sockets: {exc}") from exc
            if self._unix is None:
                raise ServeError(_explain(self._host, self._port, exc)) from exc
            raise ServeError(f"cannot listen at {self._unix}: {exc.strerror or exc}") from exc
        names = [
            each.socket.getsockname()
            for each in self._listeners
            if each.socket.family in (socket.AF_INET, socket.AF_INET6)
        ]
        self._port = names[0][1] if names else 0
        self.addresses = tuple(name[0] for name in names)
        self._accepted = accepted
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The TCP port of the listening sockets; 0 for a unix socket."""
        return self._port

    async def serve_forever(self) -> None:
        """Wait until the server is closed or the task is cancelled."""
        await self._closed.wait()

    async def close(self) -> None:
        """Stop listening, close this server's connections with 1001, and wait for their end.

        The wait is bounded by twice the hub's ``close_timeout``. Calling it again is harmless.

        Raises:
            ForkedProcessError: The server belongs to the parent process of this one.
        """
        if self._guard is not None:
            self._guard.check()
        if self._closing is None:
            # In a separate task: closing cancels responses that are under way, and the caller may
            # be the callback of such a response.
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._remove_unix_file()
        if self._accepted is not None:
            await self._accepted.close()
        self._closed.set()

    async def _listen(self, accepted: ServerSockets) -> None:
        """Create the listening sockets and start accepting."""
        make_protocol = partial(OpeningHandshake, accepted)
        if self._unix is not None:
            sockets: Sequence[socket.socket] = [self._bind_unix(self._unix)]
        else:
            sockets = self._sockets or await bind(self._host, self._port)
        options = self._tls_options()
        # All listeners exist before the first one starts, so that an error closes every socket.
        self._listeners = [Listener(each, make_protocol, options) for each in sockets]
        for listener in self._listeners:
            listener.start()

    def _bind_unix(self, path: str) -> socket.socket:
        """Bind a unix socket; replace the socket of another server at the same path."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Linux: names with a leading null byte are not in the file system.
            is_abstract = path.startswith("\0")
            if not is_abstract and _is_socket(path):
                os.unlink(path)
            listening.bind(path)
            if not is_abstract:
                status = os.stat(path)
                self._unix_file = status.st_dev, status.st_ino
        except BaseException:
            listening.close()
            raise
        return listening

    def _remove_unix_file(self) -> None:
        """Remove the file of the unix socket, unless another server has replaced it."""
        if self._unix is None or self._unix_file is None:
            return
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(self._unix)
            if (status.st_dev, status.st_ino) == self._unix_file:
                os.unlink(self._unix)
        self._unix_file = None

    def _tls_options(self) -> dict[str, Any]:
        if self._ssl is None:
            return {}
        # The TLS handshake precedes the opening handshake, whose time limit does not cover it.
        return {
            "ssl": self._ssl,
            "ssl_handshake_timeout": self._config.open_timeout,
            "ssl_shutdown_timeout": self._config.close_timeout,
        }


def _check_path(path: str) -> str:
    """Return the hub's path in the normalized form that is compared with requests.

    Raises:
        ServeError: No request can have this path.
    """
    if not path.startswith("/"):
        raise ServeError(f"path {path!r} must begin with a slash: use {'/' + path!r}")
    for character, what in ("?", "a query"), ("#", "a fragment"):
        if character in path:
            raise ServeError(
                f"path {path!r} must not have {what}: use {path.partition(character)[0]!r}"
            )
    return normalize_path(path)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


async def bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets that are bound to all addresses of a host, for one or several servers.

    Args:
        host: A name or an address; empty for all addresses of the machine.
        port: The TCP port; 0 for any free port.

    Raises:
        ServeError: The port is invalid, or the address cannot be used.
    """
    if not 0 <= port <= 65_535:
        raise ServeError(f"cannot listen on port {port}: ports are 0 to 65535")
    loop = asyncio.get_running_loop()
    address = host or None
    try:
        if address is not None and port == 0:
            # A name can have several addresses, and each would get a different free port.
            addresses = await loop.getaddrinfo(address, 0, type=socket.SOCK_STREAM)
            address = str(addresses[0][4][0])
        # The event loop resolves the name and sets the socket options, and is not used to accept.
        server = await loop.create_server(asyncio.Protocol, address, port, start_serving=False)
        ports = {each.getsockname()[1] for each in server.sockets}
        if len(ports) > 1:
            # Without a host, asyncio's own loop gives IPv4 and IPv6 different free ports.
            server.close()
            port = ports.pop()
            server = await loop.create_server(asyncio.Protocol, None, port, start_serving=False)
    except OSError as exc:
        raise ServeError(_explain(host, port, exc)) from exc
    except UnicodeError as exc:
        raise ServeError(f"cannot listen on {host!r}: not a valid host name") from exc
    # Copies of the descriptors, because the server closes its own sockets.
    sockets = [socket.socket(fileno=os.dup(each.fileno())) for each in server.sockets]
    server.close()
    return sockets


def _explain(host: str, port: int, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is already in use: "
            "stop the program that listens there, or use another port"
        )
    # The text of asyncio's error would repeat the address. The error numbers of name resolution are
    # not those of `os.strerror`.
    is_resolution = isinstance(exc, socket.gaierror)
    why = os.strerror(exc.errno) if exc.errno and not is_resolution else exc.strerror or exc
    return f"cannot listen on {host} port {port}: {why}"
