"""The server connection: the hub's implementation of the application's `Connection`."""

import asyncio
import math
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Protocol, TypeAlias

from wshub_core.connections.inbound import InboundOwner, InboundQueue, Work
from wshub_core.connections.transport import Transport
from wshub_core.loop.clock import Clock
from wshub_core.protocol.outbox import Outbox
from wshub_core.values.auth import AuthResult
from wshub_core.values.closing import CloseCode, DisconnectCause, validate_close
from wshub_core.values.connection import Connection
from wshub_core.values.messages import Message


class ConnectionOwner(InboundOwner, Protocol):
    """The parts of a hub that its connections and their queues call."""

    def subscriptions_of(self, connection: "ServerConnection") -> tuple[str, ...]:
        """Return the channels of a connection, sorted."""

    def send(self, connection: "ServerConnection", message: Message) -> bool:
        """Queue a message for one connection; return False if the connection has ended."""

    def close_connection(self, connection: "ServerConnection", code: int, reason: str) -> None:
        """End a connection with a close frame, after its queued messages."""

    def serve_frame(self, connection: "ServerConnection", payload: bytes | bytearray) -> Work:
        """Serve one frame of a client; return a coroutine that finishes the work, or None."""

    @property
    def clock(self) -> Clock:
        """The hub's clock."""


class ServerConnection(Connection):
    """A connection with its transport, its outbox and its queue of frames.

    The class is one unit, although it has many methods: most of them are one line, which the parts
    of the hub call instead of writing the fields of a connection.

    This module alone writes the liveness (`last_heard`), the writability (`is_writable`) and the
    end (`ending`) of a connection.

    Attributes:
        connected_at: Time of the end of the opening handshake.
        outbox: The messages that wait to be written; only the delivery changes it.
        transport: The transport; None after its end.
        is_writable: Whether the transport takes more bytes now.
        ending: Cause, code and reason with which the hub ends the connection; None if the hub does
            not end it.
        last_heard: Time of the last byte from the peer; infinity while the peer is not read.
        next_ping: Time of the next ping; written by the heartbeat wheel.
        slot: Slot in the heartbeat wheel, which writes it.
        context: The context variables that all callbacks of the connection share.
    """

    __slots__ = (
        "_gone",
        "_inbound",
        "_is_serving",
        "_owner",
        "connected_at",
        "context",
        "ending",
        "is_writable",
        "last_heard",
        "next_ping",
        "outbox",
        "slot",
        "transport",
    )

    def __init__(
        self,
        connection_id: int,
        remote_address: str,
        identity: AuthResult,
        owner: ConnectionOwner,
        transport: Transport,
        outbox: Outbox,
        context: Context,
        now: float,
    ) -> None:
        super().__init__(connection_id, remote_address, identity.user_id, identity.claims)
        self.outbox = outbox
        self.context = context
        self.transport: Transport | None = transport
        self.is_writable = True
        self.ending: tuple[DisconnectCause, int, str] | None = None
        self.connected_at = now
        self.last_heard = now
        self.next_ping = math.inf
        self.slot = 0
        self._owner = owner
        # Both exist only while they are needed, so that an idle connection takes little memory.
        self._gone: asyncio.Event | None = None
        self._inbound: InboundQueue | None = None
        # True while a plain step runs that needed no queue.
        self._is_serving = False

    # The interface for applications; documented on Connection.

    @property
    def subscriptions(self) -> tuple[str, ...]:  # noqa: D102
        return self._owner.subscriptions_of(self)

    @property
    def dropped_messages(self) -> int:  # noqa: D102
        return self.outbox.dropped

    @property
    def waiting_bytes(self) -> int:  # noqa: D102
        return self.outbox.queued_bytes + self.unsent_bytes

    def send(self, message: Message) -> bool:  # noqa: D102
        return self._owner.send(self, message)

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:  # noqa: D102
        validate_close(code, reason)
        self._owner.close_connection(self, code, reason)
        # A callback of this connection must not hold up what follows it: the waiting frames are
        # ignored, and `on_disconnect` runs after the callback.
        if self._inbound is None or asyncio.current_task() is not self._inbound.working:
            await self.wait_gone()

    # Frames and callbacks, in order.

    def receive(self, payload: bytes | bytearray) -> None:
        """Serve one frame of the peer, after all earlier frames.

        The frame is ignored if the hub has ended the connection.

        Args:
            payload: The payload of a text or binary message.
        """
        if self.ending is not None:
            return
        if self._inbound is None and not self._is_serving:
            self._serve(self._owner.serve_frame, self, payload)
        else:
            step = partial(self._owner.serve_frame, self, payload)
            self._open_inbound().push(step, len(payload))

    def run_on_connect(self, callback: Callable[[], Work]) -> None:
        """Run ``on_connect``, before all frames."""
        self._serve(callback)

    def run_on_disconnect(self, callback: Callable[[], Work]) -> None:
        """Run ``on_disconnect``, after the running callback has ended or has been abandoned."""
        if self._inbound is None and not self._is_serving:
            self._open_inbound().run_last(callback)
        else:
            self._open_inbound().push_last(callback)

    def cancel_callback(self) -> bool:
        """Cancel the running callback of an ended connection, and drop its waiting frames.

        Returns:
            False if no callback runs, or if it was cancelled before.
        """
        return self._inbound is not None and self._inbound.cancel()

    def abandon_callback(self) -> None:
        """Stop waiting for a callback that ignores its cancellation; run ``on_disconnect``."""
        if self._inbound is not None:
            self._inbound.abandon()

    @property
    def is_callback_running(self) -> bool:
        """True while an asynchronous callback of the connection runs."""
        return self._inbound is not None and self._inbound.working is not None

    async def wait_idle(self, seconds: float) -> bool:
        """Wait until no frame waits or is being served; return False after a time in seconds."""
        return self._inbound is None or await self._inbound.wait_closed(seconds)

    def _serve(self, step: Callable[..., Work], *args: object) -> None:
        """Run a step before which no other waits; most need no queue."""
        work: Work = None
        self._is_serving = True
        try:
            work = self.context.run(step, *args)
        finally:
            # Also after an exception. Callbacks cannot raise here, so it is a bug in the hub, and
            # the next frames must still be served.
            self._is_serving = False
            if work is not None or self._inbound is not None:
                self._open_inbound().proceed(work)

    def _open_inbound(self) -> InboundQueue:
        if self._inbound is None:
            self._inbound = InboundQueue(self, self._owner)
        return self._inbound

    def close_inbound(self) -> None:
        """Drop the queue of frames, which is empty."""
        self._inbound = None

    def replace_transport(self, transport: Transport) -> None:
        """Write through another transport from now on, which passes all calls on to the first."""
        self.transport = transport

    # Liveness and writability.

    def note_heard(self, now: float) -> None:
        """Record a sign of life: a byte from the peer, or a byte that the peer has taken."""
        # Infinity stays: silence proves nothing while the peer is not read.
        self.last_heard = max(self.last_heard, now)

    def pause_reading(self) -> None:
        """Stop reading the peer while its frames fill the queue; suspend the pong timeout."""
        if self.transport is not None:
            # Pongs are not read either, so silence proves nothing.
            self.last_heard = math.inf
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read the peer again; the pong timeout counts from now on."""
        if self.transport is not None:
            self.last_heard = self._owner.clock.time()
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Record that the transport takes no more bytes."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """Record that the transport takes bytes again."""
        self.is_writable = True

    def ping(self) -> None:
        """Send a ping, unless the connection is not writable; the write timeout then applies."""
        if self.transport is not None and self.is_writable:
            self.transport.ping()

    @property
    def unsent_bytes(self) -> int:
        """Number of bytes that the transport holds."""
        return 0 if self.transport is None else self.transport.unsent_bytes()

    # The end.

    def note_ending(self, cause: DisconnectCause, code: int, reason: str) -> None:
        """Record why the hub ends the connection; the first cause counts."""
        if self.ending is None:
            self.ending = (cause, code, reason)

    def start_close(self, code: int, reason: str) -> None:
        """Start the closing handshake."""
        if self.transport is not None:
            self.transport.close(code, reason)
            # The peer's close frame must be read, even if a full queue has paused the reading.
            self.transport.resume_reading()

    def abort(self) -> None:
        """End the network connection at once, without a close frame."""
        if self.transport is not None:
            self.transport.abort()

    def lose_transport(self) -> None:
        """Record the end of the transport, and wake the tasks in `wait_gone`."""
        self.transport = None
        if self._gone is not None:
            self._gone.set()

    async def wait_gone(self) -> None:
        """Wait until the transport has ended."""
        if self.transport is not None:
            self._gone = self._gone or asyncio.Event()
            await self._gone.wait()


CloseConnection: TypeAlias = Callable[[ServerConnection, DisconnectCause, int, str], bool]
"""Ends a connection with a cause, a close code and a reason; False if it had ended before."""
