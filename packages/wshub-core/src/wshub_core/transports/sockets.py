"""The accepted sockets of one server: their shared settings, time limits and shutdown."""

import asyncio
import contextlib
import logging
from collections.abc import Hashable, Sequence
from typing import Protocol

from websockets.protocol import State
from websockets.server import ServerProtocol

from wshub_core.connections.running_hub import RunningHub
from wshub_core.logs import get_logger
from wshub_core.loop.timeouts import Timeouts
from wshub_core.loop.turns import PreciseLoop
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.transports.asgi_messages import ASGIApp
from wshub_core.transports.deflate import Deflate
from wshub_core.transports.http_messages import format_address
from wshub_core.transports.reading import ReadingTurns
from wshub_core.values.http import ProcessRequest
from wshub_core.values.trusted_proxies import TrustedProxies

logger = get_logger("wshub.native")

# At debug level, websockets 17 logs all headers and frames, which hold secrets. A root logger at
# debug level must not enable that, so this logger has its own level.
_wire_logger = get_logger("wshub.wire")
_wire_logger.setLevel(logging.WARNING)


class ServedSocket(Hashable, Protocol):
    """The object that serves an accepted socket: a handshake or a WebSocket."""

    def abort(self) -> None:
        """Close the socket at once."""

    def shut_down(self) -> None:
        """Close a WebSocket with 1001; close any other socket at once."""


class WritingSocket(Hashable, Protocol):
    """A socket that waits until its peer takes bytes."""

    def check_progress(self) -> None:
        """Close the socket if the peer has taken no bytes since the last check."""


class ServerSockets:
    """The accepted sockets of one server.

    Args:
        hub: The hub.
        path: Path at which clients connect; None for none.
        process_request: The application's callback for requests to other paths.
        http_app: The ASGI application for requests to other paths, instead of the callback.

    Attributes:
        hub: The hub.
        path: Path at which clients connect; None for none.
        process_request: The application's callback for requests to other paths.
        http_app: The ASGI application for requests to other paths.
        proxies: Finds the addresses of clients.
        max_message_bytes: Maximum size of a message of a client.
        delivery: Delivers the messages of the hub.
        turns: Shares the time for parsing among the sockets.
        deflate: The compression of messages; None without compression.
        open: The sockets that are not closed.
        opening: Time limit of opening handshakes; expired sockets are aborted.
        closing: Time limit of closing handshakes and final responses; expired sockets are aborted.
        writing: Time limit of responses that the peer does not read; expired sockets are aborted.
    """

    def __init__(
        self,
        hub: RunningHub,
        path: str | None,
        process_request: ProcessRequest | None,
        http_app: ASGIApp | None,
    ) -> None:
        self.hub = hub
        self.path = path
        self.process_request = process_request
        self.http_app = http_app
        self.proxies = TrustedProxies(hub.config.trusted_proxies)
        self.max_message_bytes = hub.config.max_message_bytes
        self.delivery = hub.lifecycle.delivery
        self.turns = ReadingTurns(PreciseLoop(asyncio.get_running_loop()))
        compression = hub.config.compression
        self.deflate = None if compression is None else Deflate(compression, hub.count_saved_bytes)
        self.open: set[ServedSocket] = set()
        self.opening_timeouts: Timeouts[ServedSocket] = Timeouts(
            hub.clock, hub.config.open_timeout, lambda served: served.abort()
        )
        self.closing_timeouts: Timeouts[ServedSocket] = Timeouts(
            hub.clock, hub.config.close_timeout, lambda served: served.abort()
        )
        self.writing_timeouts: Timeouts[WritingSocket] = Timeouts(
            hub.clock, hub.config.write_timeout, lambda served: served.check_progress()
        )
        # Arguments and result of the last call of `join_frames`.
        self._joined_messages: Sequence[PreparedMessage] = ()
        self._joined_frames = b""
        self._is_closed = False
        self._all_closed = asyncio.Event()

    def make_protocol(self, state: State) -> ServerProtocol:
        """Return the state of a WebSocket for `websockets`."""
        return ServerProtocol(
            extensions=None if self.deflate is None else (self.deflate,),
            state=state,
            max_size=self.max_message_bytes,
            logger=_wire_logger,
        )

    def note_refusal(
        self, transport: asyncio.Transport, status: int, code: str, path: str = ""
    ) -> None:
        """Count and log a request that a socket has refused; see `Admission.note_refusal`."""
        self.hub.admission.note_refusal(status, code, format_address(transport), path)

    def join_frames(self, messages: Sequence[PreparedMessage]) -> bytes:
        """Return the frames of messages, concatenated.

        Connections with the same subscriptions have the same waiting messages. The result of the
        last call is therefore kept: the next call often asks for the same bytes.
        """
        # The comparison is cheap: messages are compared by identity.
        if messages is not self._joined_messages and messages != self._joined_messages:
            self._joined_messages = messages
            self._joined_frames = b"".join([message.frame for message in messages])
        return self._joined_frames

    def add(self, served: ServedSocket) -> None:
        """Add an accepted socket and start the time limit of its opening handshake."""
        if self._is_closed:
            served.abort()
        else:
            self.open.add(served)
            self.opening_timeouts.add(served)

    def replace(self, before: ServedSocket, after: ServedSocket) -> None:
        """Replace the object that serves a socket, after a successful opening handshake."""
        self.open.discard(before)
        self.open.add(after)

    def remove(self, served: ServedSocket) -> None:
        """Remove a closed socket."""
        self.open.discard(served)
        self.opening_timeouts.discard(served)
        self.closing_timeouts.discard(served)
        if self._is_closed and not self.open:
            self._all_closed.set()

    async def close(self) -> None:
        """Close every connection with 1001 and wait until the last socket is closed.

        Sockets that are still open after the hub's ``close_timeout`` are aborted. The whole wait is
        bounded by twice that time.
        """
        self._is_closed = True
        for served in tuple(self.open):
            served.shut_down()
        # `closing` has the same time limit, but by the hub's clock, which a test may stop. This
        # wait goes by the clock of the event loop.
        await self._wait_all_closed()
        for served in tuple(self.open):
            served.abort()
        await self._wait_all_closed()
        if self.open:
            logger.error("%d sockets are still open after they were aborted", len(self.open))
        self.opening_timeouts.cancel()
        self.closing_timeouts.cancel()
        self.writing_timeouts.cancel()

    async def _wait_all_closed(self) -> None:
        if self.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.hub.config.close_timeout):
                    await self._all_closed.wait()
