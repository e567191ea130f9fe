"""A TCP proxy that cuts connections in the middle of the data."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager


class CuttingProxy:
    """Passes bytes on to a hub, and aborts each connection after a number of bytes from the hub.

    Args:
        hub_url: The address of the hub.
        cuts: The number of bytes for each connection; connections after the last are not cut.

    Attributes:
        connections: Number of accepted connections.
    """

    def __init__(self, hub_url: str, cuts: Iterator[int]) -> None:
        self.connections = 0
        self._port = int(hub_url.split(":")[2].split("/")[0])
        self._cuts = cuts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        cut = next(self._cuts, None)
        to_hub: asyncio.StreamWriter | None = None
        upward: asyncio.Task[None] | None = None
        try:
            from_hub, to_hub = await asyncio.open_connection("127.0.0.1", self._port)
            upward = asyncio.create_task(_copy(reader, to_hub))
            await _copy(from_hub, writer, cut)
        except ConnectionError:
            pass
        finally:
            for each in filter(None, (writer, to_hub)):
                each.transport.abort()
            if upward is not None:
                with contextlib.suppress(ConnectionError):
                    await upward


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None = None
) -> None:
    while data := await reader.read(65_536 if limit is None else min(limit, 65_536)):
        writer.write(data)
        await writer.drain()
        if limit is not None:
            limit -= len(data)
            if limit == 0:
                return


@asynccontextmanager
async def cutting_proxy(
    hub_url: str, cuts: Iterator[int]
) -> AsyncIterator[tuple[CuttingProxy, str]]:
    """Serve a proxy in front of a hub; yield it and its address."""
    proxy = CuttingProxy(hub_url, cuts)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        yield proxy, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
