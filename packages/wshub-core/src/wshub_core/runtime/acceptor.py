"""What the transports of one listening socket share."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from wshub_core.logs import get_logger
from wshub_core.runtime.clock import Clock
from wshub_core.runtime.manager import ConnectionManager
from wshub_core.runtime.reading import ReadingTurns
from wshub_core.runtime.timeouts import Timeouts
from wshub_core.state.prepared import PreparedMessage
from wshub_core.values.http import Request, Response

if TYPE_CHECKING:
    from wshub_core.runtime.native import NativeTransport

logger = get_logger("wshub.native")

ProcessRequest: TypeAlias = Callable[[Request], Response | Awaitable[Response | None] | None]
"""Answers HTTP requests to other paths than the hub's; None means that nothing is there. Plain or
async."""


class Acceptor:
    """What the transports of one server share.

    Args:
        manager: Lets connections in.
        clock: The clock that timeouts go by.
        path: The path at which the hub is.
        process_request: Answers requests to other paths.
    """

    def __init__(
        self,
        manager: ConnectionManager,
        clock: Clock,
        path: str,
        process_request: ProcessRequest | None,
    ) -> None:
        config = manager.config
        self.manager = manager
        self.clock = clock
        self.path = path
        self.process_request = process_request
        self.turns = ReadingTurns(asyncio.get_running_loop())
        self.transports: set[NativeTransport] = set()
        self.opening: Timeouts[NativeTransport] = Timeouts(
            clock, config.open_timeout, lambda transport: transport.abort()
        )
        self.closing: Timeouts[NativeTransport] = Timeouts(
            clock, config.close_timeout, lambda transport: transport.abort()
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

    def add(self, transport: "NativeTransport") -> None:
        """Start the clock for a transport whose socket has been accepted."""
        if self._is_closed:
            transport.abort()
        else:
            self.transports.add(transport)
            self.opening.add(transport)

    def remove(self, transport: "NativeTransport") -> None:
        """Forget a transport whose socket is closed."""
        self.transports.discard(transport)
        self.opening.discard(transport)
        self.closing.discard(transport)
        if self._is_closed and not self.transports:
            self._all_gone.set()

    async def close(self) -> None:
        """Close every connection with 1001 and wait until the last socket is closed."""
        self._is_closed = True
        for transport in tuple(self.transports):
            transport.shut_down()
        # Transports have the same timeout, by the hub's clock; this one goes by the real one.
        await self._wait_all_gone()
        for transport in tuple(self.transports):
            transport.abort()
        await self._wait_all_gone()
        if self.transports:
            logger.error("%d sockets do not close", len(self.transports))
        self.opening.cancel()
        self.closing.cancel()

    async def _wait_all_gone(self) -> None:
        if self.transports:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.manager.config.close_timeout):
                    await self._all_gone.wait()
