"""The hub's own server: a listening socket whose connections the native transport serves."""

import asyncio
import errno
import os
import socket
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wshub_core.runtime.native import NativeAcceptor, ProcessRequest
from wshub_core.values.errors import ServeError

if TYPE_CHECKING:
    from wshub_core.runtime.hub import Hub

_BACKLOG = 1_024
"""Connections that may wait to be accepted, so that a fleet that reconnects at once gets in."""


class Server:
    """A listening server; `Hub.serve` makes one, and ``async with`` starts and closes it."""

    def __init__(
        self,
        hub: "Hub",
        host: str,
        port: int,
        *,
        path: str,
        ssl: SSLContext | None,
        process_request: ProcessRequest | None,
    ) -> None:
        self._hub = hub
        self._host = host
        self._port = port
        self._path = path
        self._ssl = ssl
        self._process_request = process_request
        self._acceptor: NativeAcceptor | None = None
        self._server: asyncio.Server | None = None
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        if not 0 <= self._port <= 65_535:
            raise ServeError(f"cannot listen on port {self._port}: ports are 0 to 65535")
        loop = asyncio.get_running_loop()
        self._acceptor = self._hub.make_acceptor(self._path, self._process_request)
        try:
            host = self._host
            if self._port == 0:
                # A name may stand for several addresses, and each would get a port of its own.
                addresses = await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
                host = str(addresses[0][4][0])
            self._server = await loop.create_server(
                self._acceptor.make_transport, host, self._port, ssl=self._ssl, backlog=_BACKLOG
            )
        except OSError as exc:
            raise ServeError(_explain(exc, self._host, self._port)) from exc
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
        """The TCP port that the server listens on, also when any free one was asked for."""
        assert self._server is not None, "the server has been started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def serve_forever(self) -> None:
        """Wait until the server is closed or the task is cancelled."""
        await self._closed.wait()

    async def close(self) -> None:
        """Stop listening, close this server's connections with 1001, and wait until they are gone.

        The wait is bounded by the hub's ``close_timeout``. Closing again is harmless.
        """
        if self._server is not None and self._acceptor is not None:
            self._server.close()
            await self._acceptor.close()
        self._closed.set()


def _explain(exc: OSError, host: str, port: int) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is already in use: stop what listens there, or take another"
    # asyncio puts the address into the text once more; name resolution has numbers of its own.
    is_resolution = isinstance(exc, socket.gaierror)
    why = os.strerror(exc.errno) if exc.errno and not is_resolution else exc.strerror or str(exc)
    return f"cannot listen on {host} port {port}: {why}"
