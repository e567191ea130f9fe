"""The sockets of one server: their shared settings, their time limits, and their end."""

import asyncio
import contextlib
from collections.abc import Hashable, Sequence
from typing import Protocol

from wshub_core.connections.running_hub import RunningHub
from wshub_core.logs import get_logger
from wshub_core.loop.timeouts import Timeouts
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.transports.reading import ReadingTurns
from wshub_core.values.http import ProcessRequest

logger = get_logger("wshub.native")


class ServedSocket(Hashable, Protocol):
    """An accepted socket."""

    def abort(self) -> None:
        """Close the socket at once."""

    def shut_down(self) -> None:
        """Close a WebSocket with 1001, and any other socket at once."""


class ServerSockets:
    """The accepted sockets of one server.

    Args:
        hub: The hub.
        path: Path at which clients connect.
        process_request: Answers requests to other paths.

    Attributes:
        hub: The hub.
        path: Path at which clients connect.
        process_request: Answers requests to other paths.
        turns: Shares the time for reading among the sockets.
        open: The sockets that are not closed.
        opening: Time limit of the opening handshake.
        closing: Time limit of the end of a connection.
    """

    def __init__(self, hub: RunningHub, path: str, process_request: ProcessRequest | None) -> None:
        self.hub = hub
        self.path = path
        self.process_request = process_request
        self.turns = ReadingTurns(asyncio.get_running_loop())
        self.open: set[ServedSocket] = set()
        self.opening: Timeouts[ServedSocket] = Timeouts(
            hub.clock, hub.config.open_timeout, lambda served: served.abort()
        )
        self.closing: Timeouts[ServedSocket] = Timeouts(
            hub.clock, hub.config.close_timeout, lambda served: served.abort()
        )
        self._joined_messages: Sequence[PreparedMessage] = ()
        self._joined_frames = b""
        self._is_closed = False
        self._all_gone = asyncio.Event()

    def join(self, messages: Sequence[PreparedMessage]) -> bytes:
        """Return the frames of messages, one after the other.

        Connections with the same audience wait for the same messages, so the bytes of the last
        call are often those of the next.
        """
        if len(messages) == 1:
            return messages[0].frame
        if messages != self._joined_messages:
            self._joined_messages = messages
            self._joined_frames = b"".join([message.frame for message in messages])
        return self._joined_frames

    def add(self, served: ServedSocket) -> None:
        """Add an accepted socket and start the time limit of its opening handshake."""
        if self._is_closed:
            served.abort()
        else:
            self.open.add(served)
            self.opening.add(served)

    def replace(self, before: ServedSocket, after: ServedSocket) -> None:
        """Replace the object that serves a socket."""
        self.open.discard(before)
        self.open.add(after)

    def remove(self, served: ServedSocket) -> None:
        """Remove a closed socket."""
        self.open.discard(served)
        self.opening.discard(served)
        self.closing.discard(served)
        if self._is_closed and not self.open:
            self._all_gone.set()

    async def close(self) -> None:
        """Close every connection with 1001 and wait until the last socket is closed."""
        self._is_closed = True
        for served in tuple(self.open):
            served.shut_down()
        # Transports have the same timeout, by the hub's clock; this one goes by the real one.
        await self._wait_all_gone()
        for served in tuple(self.open):
            served.abort()
        await self._wait_all_gone()
        if self.open:
            logger.error("%d sockets do not close", len(self.open))
        self.opening.cancel()
        self.closing.cancel()

    async def _wait_all_gone(self) -> None:
        if self.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.hub.config.close_timeout):
                    await self._all_gone.wait()
