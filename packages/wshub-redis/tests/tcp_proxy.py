"""A proxy between a bridge and its server that simulates faults."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class TCPProxy:
    """A TCP proxy that passes bytes on, and can refuse, edit or cut.

    Attributes:
        target: The port that new connections are passed on to.
        is_refusing: Whether new connections are closed at once.
        edit: Returns the bytes to pass on for bytes from the server; at first the same bytes.
    """

    def __init__(self, target: int) -> None:
        self.is_refusing = False
        self.edit: Callable[[bytes], bytes] = bytes
        self.port = 0
        self.target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.is_refusing:
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(far_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, far_writer, bytes))
                group.create_task(self._pass_on(far_reader, writer, lambda data: self.edit(data)))
        finally:
            self._tasks.discard(task)
            writer.close()

    def close_connections(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        edit: Callable[[bytes], bytes],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(edit(data))
                await writer.drain()
        writer.close()

    async def end(self) -> None:
        self.close_connections()
        for task in tuple(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def run_proxy(target: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[TCPProxy]:
    proxy = TCPProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
