"""The hub's own server: a listening socket whose connections the native transport serves."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from functools import partial
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from wshub_core.runtime.acceptor import Acceptor, ProcessRequest
from wshub_core.runtime.native import NativeTransport
from wshub_core.values.errors import ServeError

if TYPE_CHECKING:
    from wshub_core.runtime.hub import Hub

_BACKLOG = 1_024
"""Connections that may wait to be accepted, so that a fleet that reconnects at once gets in."""


class Server:
    """A listening server; `Hub.serve` makes one, and ``async with`` starts and closes it.

    Attributes:
        addresses: The IP addresses that it listens at; none for a unix socket.
    """

    def __init__(
        self,
        hub: "Hub",
        host: str | None,
        port: int | None,
        unix: str | None,
        sockets: Sequence[socket.socket],
        path: str,
        ssl: SSLContext | None,
        process_request: ProcessRequest | None,
    ) -> None:
        if [unix is None, host is None or port is None, not sockets].count(False) != 1:
            raise ServeError(
                "serve needs a host and a port, or unix= with the path of a socket, or sockets="
            )
        self._hub = hub
        self._host = host or ""
        self._port = port or 0
        self._unix = unix
        self._sockets = sockets
        self._path = path
        self._ssl = ssl
        self._process_request = process_request
        self._acceptor: Acceptor | None = None
        self._servers: list[asyncio.Server] = []
        self._closed = asyncio.Event()
        self.addresses: tuple[str, ...] = ()

    async def __aenter__(self) -> Self:
        acceptor = Acceptor(self._hub.manager, self._hub.clock, self._path, self._process_request)
        try:
            await self._listen(acceptor)
        except OSError as exc:
            await self.close()
            if self._sockets:
                raise ServeError(f"cannot listen on the given sockets: {exc}") from exc
            if self._unix is None:
                raise ServeError(_explain(self._host, self._port, exc)) from exc
            raise ServeError(f"cannot listen at {self._unix}: {exc.strerror or exc}") from exc
        if self._unix is None:
            names = [each.getsockname() for server in self._servers for each in server.sockets]
            self._port = names[0][1]
            self.addresses = tuple(name[0] for name in names)
        self._acceptor = acceptor
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def acceptor(self) -> Acceptor:
        """What holds this server's transports; applications have no use for it."""
        assert self._acceptor is not None, "the server has been started"
        return self._acceptor

    @property
    def port(self) -> int:
        """The TCP port that the server listens on, also when any free one was asked for."""
        return self._port

    async def serve_forever(self) -> None:
        """Wait until the server is closed or the task is cancelled."""
        await self._closed.wait()

    async def close(self) -> None:
        """Stop listening, close this server's connections with 1001, and wait until they are gone.

        The wait is bounded by the hub's ``close_timeout``. Closing again is harmless.
        """
        for server in self._servers:
            server.close()
        if self._acceptor is not None:
            await self._acceptor.close()
            if self._unix is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._unix)
        self._closed.set()

    async def _listen(self, acceptor: Acceptor) -> None:
        loop = asyncio.get_running_loop()
        make_transport = partial(NativeTransport, acceptor)
        options: dict[str, Any] = {"backlog": _BACKLOG, **self._tls_options()}
        if self._unix is not None:
            server = await loop.create_unix_server(make_transport, self._unix, **options)
            self._servers.append(server)
            return
        sockets = self._sockets or await bind(self._host, self._port)
        try:
            for each in sockets:
                server = await loop.create_server(make_transport, sock=each, **options)
                self._servers.append(server)
        except OSError:
            for each in sockets[len(self._servers) :]:
                each.close()
            raise

    def _tls_options(self) -> dict[str, Any]:
        if self._ssl is None:
            return {}
        # Handshakes of TLS come before ours and are not seen by it, so they have timeouts here.
        return {
            "ssl": self._ssl,
            "ssl_handshake_timeout": self._hub.config.open_timeout,
            "ssl_shutdown_timeout": self._hub.config.close_timeout,
        }


async def bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets that are bound to all addresses of a host, for one server or several.

    Args:
        host: A name or an address; empty for all of the machine's.
        port: The TCP port; 0 for any free one.

    Raises:
        ServeError: That is not possible.
    """
    if not 0 <= port <= 65_535:
        raise ServeError(f"cannot listen on port {port}: ports are 0 to 65535")
    loop = asyncio.get_running_loop()
    address = host or None
    try:
        if address is not None and port == 0:
            # A name may stand for several addresses, and each would get a port of its own.
            addresses = await loop.getaddrinfo(address, 0, type=socket.SOCK_STREAM)
            address = str(addresses[0][4][0])
        server = await loop.create_server(asyncio.Protocol, address, port, start_serving=False)
    except OSError as exc:
        raise ServeError(_explain(host, port, exc)) from exc
    except UnicodeError as exc:
        raise ServeError(f"cannot listen on {host!r}: no valid host name") from exc
    sockets = [socket.socket(fileno=os.dup(each.fileno())) for each in server.sockets]
    server.close()
    return sockets


def _explain(host: str, port: int, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is already in use: stop what listens there, or take another"
    # asyncio puts the address into the text once more; name resolution has numbers of its own.
    is_resolution = isinstance(exc, socket.gaierror)
    why = os.strerror(exc.errno) if exc.errno and not is_resolution else exc.strerror or exc
    return f"cannot listen on {host} port {port}: {why}"
