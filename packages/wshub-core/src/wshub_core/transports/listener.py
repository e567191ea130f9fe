"""Accepting: takes connections from a listening socket, and pauses when none can be taken."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from wshub_core.logs import get_logger

logger = get_logger("wshub.native")

_BACKLOG = 1_024
"""Connections that may wait to be accepted, so that a fleet that reconnects at once gets in."""

_ACCEPTS_PER_TURN = 32
"""How many connections are accepted before others get a turn on the event loop."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Errors of ``accept`` that last until somebody frees a descriptor or memory."""

_PAUSE_SECONDS = 0.5
"""How long accepting pauses then."""


class Listener:
    """Accepts connections from one socket until it is closed.

    The event loops have servers of their own. Out of descriptors, that of asyncio logs a record for
    every connection that waits, and that of uvloop stops listening for good.

    Args:
        listening: A bound stream socket, which the listener closes.
        make_protocol: Returns the protocol of a connection.
        options: How `asyncio.loop.connect_accepted_socket` does TLS.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        options: dict[str, Any],
    ) -> None:
        self.socket = listening
        self._make_protocol = make_protocol
        self._options = options
        self._loop = asyncio.get_running_loop()
        # A TLS handshake takes its time.
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: set[socket.socket] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._is_closed = False

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: The socket cannot listen.
        """
        self.socket.setblocking(False)
        self.socket.listen(_BACKLOG)
        self._loop.add_reader(self.socket, self._accept)

    def close(self) -> None:
        """Stop listening, and drop connections whose TLS handshake is under way."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._pause is not None:
            self._pause.cancel()
        else:
            self._loop.remove_reader(self.socket)
        self.socket.close()
        for task in self._connecting:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                accepted, _ = self.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                # Also for other errors than those of `_EXHAUSTED`: the socket may stay readable.
                level = logging.ERROR if exc.errno in _EXHAUSTED else logging.WARNING
                logger.log(
                    level, "no connections are accepted for %g s: %s", _PAUSE_SECONDS, exc.strerror
                )
                self._loop.remove_reader(self.socket)
                self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)
                return
            accepted.setblocking(False)
            self._waiting.add(accepted)
            task = self._loop.create_task(self._connect(accepted))
            self._connecting.add(task)
            task.add_done_callback(partial(self._note_connected, accepted))

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self.socket, self._accept)

    async def _connect(self, accepted: socket.socket) -> None:
        self._waiting.discard(accepted)
        await self._loop.connect_accepted_socket(self._make_protocol, accepted, **self._options)

    def _note_connected(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is None:
                return
            # A TLS handshake that fails, or a peer that has left.
            logger.debug("a connection was not made: %s", error)
        if accepted in self._waiting:
            # The task has not even begun. Otherwise the event loop closes the socket.
            self._waiting.discard(accepted)
            accepted.close()
