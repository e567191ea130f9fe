"""The output of a process: the bytes of its pipes, until both are read to their end."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import cast

_PAUSE_SECONDS = 0.5
"""Seconds for which a line without an end is held back, because its end may follow."""

_MAX_CHUNKS_AHEAD = 4
"""Number of unpublished reads at which reading from a pipe pauses."""

_MAX_LATE_BYTES = 2_097_152
"""Bytes that are read after the exit while the hub is behind: the capacity of two pipes."""

_DRAIN_SECONDS = 1.0
"""Seconds for which output is read after the exit if a child of the process keeps a pipe open."""


class Output(asyncio.SubprocessProtocol):
    """The bytes of both pipes of a process, in the order in which they are read.

    Attributes:
        exit_code: Done when the process has exited.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.exit_code: asyncio.Future[int] = self._loop.create_future()
        self._transport: asyncio.SubprocessTransport
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._open_pipes = {1, 2}
        self._is_drained = False
        self._late_bytes = 0
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport of the process."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Queue the bytes of a read; stop reading the pipe if the publishing is behind."""
        self._chunks.append((fd, data))
        if self.exit_code.done():
            self._late_bytes += len(data)
        if len(self._chunks) >= _MAX_CHUNKS_AHEAD:
            self._pipe(fd).pause_reading()
        self._changed.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Record the end of a pipe."""
        self._open_pipes.discard(fd)
        self._changed.set()

    def process_exited(self) -> None:
        """Record the exit; the pipes may still hold output."""
        exit_code = self._transport.get_returncode()
        assert exit_code is not None, "the process has exited"
        self.exit_code.set_result(exit_code)
        self._loop.call_later(_DRAIN_SECONDS, self._end_drain)
        self._changed.set()

    async def chunks(self) -> AsyncIterator[tuple[int, bytes] | None]:
        """Yield the pipe (1 or 2) and the bytes of each read, and None after each long pause."""
        while True:
            while self._chunks:
                yield self._chunks.popleft()
                if not self._is_drained:
                    for fd in self._open_pipes:
                        self._pipe(fd).resume_reading()
            if self.exit_code.done() and (self._is_drained or not self._open_pipes):
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(_PAUSE_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                yield None
                await self._changed.wait()

    def _end_drain(self) -> None:
        if self._chunks and self._late_bytes <= _MAX_LATE_BYTES:
            # The hub is behind, so the output of the process may still be in the pipes.
            self._loop.call_later(_DRAIN_SECONDS, self._end_drain)
            return
        self._is_drained = True
        for fd in self._open_pipes:
            self._pipe(fd).pause_reading()
        self._changed.set()

    def _pipe(self, fd: int) -> asyncio.ReadTransport:
        return cast("asyncio.ReadTransport", self._transport.get_pipe_transport(fd))
