"""The listener: accepts connections, and pauses when the process has no descriptors left."""

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
"""Connections that the kernel may queue before they are accepted. Many clients that reconnect at
once fit in.
"""

_ACCEPTS_PER_TURN = 32
"""Connections that are accepted in one round of the event loop."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Error numbers of ``accept`` for a lack of descriptors or memory. They repeat until one is freed.
"""

_PAUSE_SECONDS = 0.5
"""Time for which accepting pauses after an error, in seconds."""


class Listener:
    """Accepts connections from one socket until it is closed.

    The servers of the event loops behave badly without free descriptors. The server of asyncio
    (Python 3.11) logs as many records per second as its backlog has places. The server of uvloop
    (0.21 to 0.23) closes the waiting connections at once and logs nothing.

    Args:
        listening: A bound stream socket; the listener closes it.
        make_protocol: Returns the protocol of a new connection. The argument is its socket; None
            for TLS.
        options: TLS options for `asyncio.loop.connect_accepted_socket`.

    Attributes:
        socket: The listening socket.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[socket.socket | None], asyncio.Protocol],
        options: dict[str, Any],
    ) -> None:
        self.socket = listening
        self._make_protocol = make_protocol
        self._options = options
        self._loop = asyncio.get_running_loop()
        # The tasks of connections whose TLS handshake is under way.
        self._connecting: set[asyncio.Task[None]] = set()
        # Accepted sockets whose task has not begun, so that nothing else would close them.
        self._waiting: set[socket.socket] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._is_closed = False

    def start(self) -> None:
        """Start listening.

        Raises:
            OSError: The socket cannot listen.
        """
        self.socket.setblocking(False)
        self.socket.listen(_BACKLOG)
        self._loop.add_reader(self.socket, self._accept)

    def close(self) -> None:
        """Stop listening, and cancel TLS handshakes that are under way."""
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
                # No connection waits, or a client has left before it was accepted.
                return
            except OSError as exc:
                # The socket stays readable, so without a pause the event loop would call this
                # method in every round.
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
        plain_socket = None if "ssl" in self._options else accepted
        await self._loop.connect_accepted_socket(
            partial(self._make_protocol, plain_socket), accepted, **self._options
        )

    def _note_connected(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is None:
                return
            # The TLS handshake has failed, or the client has left.
            logger.debug("setting up a connection failed: %s", error)
        if accepted in self._waiting:
            # The task was cancelled before it began. After its beginning, the event loop closes
            # the socket.
            self._waiting.discard(accepted)
            accepted.close()
