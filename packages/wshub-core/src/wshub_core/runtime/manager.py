"""The connection manager: lets connections in, serves their frames, and lets them go."""

import asyncio
import contextlib
from asyncio import Future
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from datetime import UTC, datetime
from functools import partial
from inspect import isawaitable
from itertools import count
from typing import Any, TypeAlias

import msgspec

from wshub_core.forks import ForkGuard
from wshub_core.logs import get_logger
from wshub_core.runtime.bridging import Bridging
from wshub_core.runtime.callbacks import Callbacks
from wshub_core.runtime.clock import Clock
from wshub_core.runtime.connection import Connection
from wshub_core.runtime.door import Door
from wshub_core.runtime.expiry import Expiry
from wshub_core.runtime.fanout import Fanout
from wshub_core.runtime.pulse import Pulse
from wshub_core.runtime.requests import Requests
from wshub_core.runtime.session import Session, Work
from wshub_core.runtime.tasks import Tasks
from wshub_core.runtime.timeouts import Timeouts
from wshub_core.runtime.transport import Transport
from wshub_core.state.counters import Counters
from wshub_core.state.forwarded import settle_forwarded
from wshub_core.state.outbox import Outbox
from wshub_core.state.prepared import PreparedMessage
from wshub_core.state.registry import Registry
from wshub_core.values.auth import AuthResult
from wshub_core.values.channels import is_between_hubs, validate_channel, validate_process_id
from wshub_core.values.closing import CloseCode, Disconnect, DisconnectCause
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import (
    MessageDecodeError,
    MessageTooLargeError,
    SubscriptionDeniedError,
    WSHubError,
)
from wshub_core.values.messages import (
    Message,
    decode_message,
    encode_message,
    validate_published,
)

logger = get_logger("wshub.connections")

PublishListener: TypeAlias = Callable[[str, Message], None]
"""Called on the hub's loop with every channel and message published; must not block."""


class ConnectionManager:
    """All connections of one hub, from the opening handshake to the end.

    This is the side of the hub that transports see: have the door judge a request, `connect` the
    transport, pass on what the peer sends and how writing goes, and say when the transport is gone.

    Attributes:
        door: Who may come in.
        registry: Who is connected, and who is subscribed to what. What is not in it gets nothing
            and is not listened to.
        bridging: What other hubs have to do with this one.
        tasks: The tasks that the hub waits for when it is closed.
        counters: What has been done so far.
    """

    def __init__(
        self,
        config: HubConfig,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        publish_listeners: Sequence[PublishListener],
    ) -> None:
        self.config = config
        self.counters = Counters()
        self.registry: Registry[Session] = Registry(config.max_subscriptions, self._note_empty)
        self.bridging = Bridging(clock, self.registry)
        self._publish_listeners = publish_listeners
        self._guard = ForkGuard("hub")
        self._clock = clock
        self._ids = count(1)
        self._loop = loop
        self.tasks = Tasks(loop)
        self.callbacks = Callbacks(loop, self.counters, self.tasks)
        self.door = Door(config, self.callbacks, self.counters, lambda: len(self._sessions))
        self._fanout = Fanout(loop, self.counters, self._evict)
        self._pulse = Pulse(clock, config.heartbeat_interval, config.pong_timeout, self._end_silent)
        self._requests = Requests(self)
        self._stalled: Timeouts[Session] = Timeouts(clock, config.write_timeout, self._end_stalled)
        self.expiry = Expiry(clock, self._end_expired)
        self._late: Timeouts[Session] = Timeouts(clock, config.close_timeout, self._end_late_step)
        # Subscriptions of `subscribe_nowait` that an async authorizer decides about.
        self._deciding: dict[Session, dict[str, asyncio.Task[Any]]] = {}
        # Every session with a transport, so also those that are being closed.
        self._sessions: set[Session] = set()

    # What transports call.

    def connect(
        self,
        transport: Transport,
        remote_address: str,
        identity: AuthResult,
        context: Context | None = None,
    ) -> Session:
        """Take in a connection whose handshake has succeeded.

        Args:
            transport: Carries the connection's messages.
            remote_address: The address of the peer.
            identity: What the authenticator returned.
            context: The context for the connection's callbacks, in which nothing runs now; a copy
                of the present one if None.
        """
        outbox = Outbox(self.config.max_outbox_bytes, self.config.overflow)
        session = Session(
            next(self._ids),
            remote_address,
            identity,
            self,
            transport,
            outbox,
            copy_context() if context is None else context,
        )
        self.expiry.set(session, identity.expires_at)
        self._sessions.add(session)
        self.registry.add(session)
        self._pulse.add(session)
        self.counters.connections += 1
        logger.debug("%r connected", session)
        on_connect = self.config.on_connect
        if on_connect is not None:
            session.greet(partial(self.tell, "on_connect", on_connect, session))
        return session

    def pause_writing(self, session: Session) -> None:
        """Note that a transport takes no more bytes for now."""
        session.is_writable = False
        self._stalled.add(session)

    def resume_writing(self, session: Session) -> None:
        """Note that a transport has passed on all it had, and takes more."""
        self._stalled.discard(session)
        session.is_writable = True
        session.outbox.unsent_bytes = 0
        self._fanout.resume(session)

    def leave(self, session: Session) -> None:
        """Note that the conversation is over: nothing is for it or from it any more."""
        self._requests.forget(session)
        if self.registry.remove(session):
            for task in tuple(self._deciding.pop(session, {}).values()):
                task.cancel()
            self._pulse.discard(session)
            self.expiry.discard(session)
            session.outbox.seal()

    def disconnect(self, session: Session, cause: DisconnectCause, code: int, reason: str) -> None:
        """Note that a transport is gone; if the hub has ended it itself, its cause counts."""
        if session not in self._sessions:
            return  # the hub did not wait for the transport any longer
        self.leave(session)
        self._stalled.discard(session)
        self._sessions.discard(session)
        session.lose_transport()
        end = session.ending or (cause, code, reason)
        disconnect = Disconnect(*end, session.dropped_messages)
        logger.debug("%r disconnected: %s", session, disconnect)
        on_disconnect = self.config.on_disconnect
        if on_disconnect is not None:
            session.bid_farewell(
                partial(self.tell, "on_disconnect", on_disconnect, session, disconnect)
            )

    # What sessions call.

    def time(self) -> float:
        """Return the time of the hub's clock."""
        return self._clock.time()

    def check_process(self) -> None:
        """Raise an error in a forked child.

        Raises:
            ForkedProcessError: The hub belongs to the parent process.
        """
        self._guard.check()

    def spawn(
        self, work: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Start a task that the hub waits for when it is closed; see `Tasks.spawn`."""
        return self.tasks.spawn(work, context)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back in the next round of the event loop."""
        self._loop.call_soon(callback)

    def limit_step(self, session: Session) -> None:
        """Give a callback ``close_timeout`` from now on; its connection has ended."""
        self._late.discard(session)
        self._late.add(session)

    def subscriptions_of(self, session: Session) -> tuple[str, ...]:
        """Return the channels of a session, sorted."""
        return self.registry.channels_of(session)

    def send(self, session: Session, message: Message) -> bool:
        """Queue a message for a session alone; return whether that was possible."""
        self.check_process()
        if not isinstance(message, Message):
            raise TypeError(
                f"connection.send(message) takes a Message, not {type(message).__qualname__}: "
                'use Message(type="event", data=…) to send plain data'
            )
        if message.process_id:
            validate_process_id(message.process_id)
        _, prepared = self._encode(message, message.channel, 0)
        if session not in self.registry:
            return False
        self._fanout.send_one(session, prepared)
        return True

    def close(self, session: Session, code: int, reason: str) -> None:
        """Take a session out of the hub; it gets what was queued, then the close frame."""
        self.check_process()
        self._end(session, DisconnectCause.SERVER_CLOSED, code, reason)

    def serve_frame(self, session: Session, payload: bytes | bytearray) -> Work:
        """Do what a frame asks for."""
        return self._requests.serve(session, payload)

    def tell(self, name: str, callback: Any, *args: object) -> Work:
        """Call a callback whose result means nothing."""
        result: object = self.callbacks.call(name, None, callback, *args)
        return result if isinstance(result, Coroutine) else None

    # What the hub and its bridge call.

    def tell_apart(self, name: str, callback: Any, *args: object) -> None:
        """Call a callback that has to do with no connection; an async one runs by itself."""
        work = self.tell(name, callback, *args)
        if work is not None:
            self.spawn(work)

    def prepare(
        self, message: Message, channel: str | None, *, local_only: bool
    ) -> tuple[Message, PreparedMessage]:
        """Check, stamp and encode a message to publish; safe from any thread.

        Args:
            message: The message.
            channel: Where it is published; None for a broadcast.
            local_only: Whether a bridge leaves it to this hub's own connections.

        Raises:
            WSHubError: As `Hub.publish` does.
        """
        validate_published(message, channel)
        if channel is None and message.channel and not local_only and self.bridging.bridge:
            # Other hubs drop a broadcast that names an invalid channel.
            validate_channel(message.channel)
        reserved = 0 if local_only else self.bridging.reserved_bytes
        return self._encode(message, channel or message.channel, reserved)

    def _encode(
        self, message: Message, channel: str, reserved: int
    ) -> tuple[Message, PreparedMessage]:
        stamped = msgspec.structs.replace(message, channel=channel, timestamp=datetime.now(UTC))
        payload = encode_message(stamped)
        limit = self.config.max_message_bytes - reserved
        if len(payload) > limit:
            raise MessageTooLargeError(len(payload), limit, reserved=reserved)
        return stamped, PreparedMessage(payload)

    def broadcast(self, message: PreparedMessage, *, local_only: bool) -> None:
        """Deliver a message to every connection, also to those of other hubs."""
        self.counters.messages += 1
        self._fanout.send_all(self.registry.connections, message)
        if not local_only:
            self.bridging.forward("", message.payload)

    def publish(
        self, channel: str, message: Message, prepared: PreparedMessage, *, local_only: bool
    ) -> None:
        """Deliver a message to every subscriber of a channel, and tell those who watch."""
        self.counters.messages += 1
        self._tell_listeners(channel, message)
        self._fanout.send_all(self.registry.subscribers_of(channel), prepared)
        if not local_only:
            self.bridging.forward(channel, prepared.payload)

    def deliver(self, channel: str, payload: bytes) -> None:
        """Deliver what another hub has published; see `Hub.deliver`."""
        settled = settle_forwarded(payload, channel, datetime.now(UTC))
        limit = self.config.max_message_bytes
        if len(settled) > limit:
            raise MessageTooLargeError(len(settled), limit)
        self.counters.messages += 1
        if channel and self._publish_listeners:
            # A number that no float holds is carried, but cannot be read here.
            with contextlib.suppress(MessageDecodeError):
                self._tell_listeners(channel, decode_message(settled))
        targets = self.registry.subscribers_of(channel) if channel else self.registry.connections
        self._fanout.send_all(targets, PreparedMessage(settled))

    async def subscribe(self, connection: Connection, channel: str) -> None:
        """Subscribe a connection; see `Hub.subscribe`."""
        if isinstance(connection, Session) and connection in self.registry:
            validate_channel(channel)
            is_allowed = self.authorize(connection, channel)
            if isawaitable(is_allowed):
                is_allowed = await is_allowed
            await self.bridging.confirm(self.add_subscription(connection, channel, is_allowed))

    def subscribe_nowait(self, connection: Connection, channel: str) -> None:
        """Start to subscribe a connection; see `Hub.subscribe_nowait`."""
        if not isinstance(connection, Session) or connection not in self.registry:
            return
        validate_channel(channel)
        deciding = self._deciding.get(connection, {})
        if channel in deciding:
            return
        is_allowed = self.authorize(connection, channel)
        if isinstance(is_allowed, Coroutine):
            task = self.spawn(self._finish_subscribe(connection, channel, is_allowed))
            self._deciding.setdefault(connection, deciding)[channel] = task
        else:
            with contextlib.suppress(WSHubError):
                self.add_subscription(connection, channel, is_allowed)

    async def _finish_subscribe(
        self, session: Session, channel: str, is_allowed: Awaitable[bool]
    ) -> None:
        try:
            with contextlib.suppress(WSHubError):
                self.add_subscription(session, channel, await is_allowed)
        finally:
            self._deciding.get(session, {}).pop(channel, None)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        """End a subscription; see `Hub.unsubscribe`."""
        if isinstance(connection, Session):
            self.registry.unsubscribe(connection, channel)

    async def close_all(self, code: int, reason: str) -> None:
        """Refuse who knocks, close every connection, and wait until the last is gone.

        Connections that take longer than ``close_timeout`` are aborted. Callbacks that still run
        then get as long again, and are cancelled; calls of ``on_disconnect`` that come of that get
        as long, too. No wait has another end than its time.
        """
        self.door.is_closed = True
        sessions = tuple(self._sessions)
        for session in sessions:
            self.close(session, code, reason)
        # Transports have the same timeout, by the hub's clock; this one goes by the real one.
        await self._wait_gone(sessions)
        for session in sessions:
            session.abort()
        await self._wait_gone(sessions)
        for session in self._sessions & {*sessions}:
            logger.error("the transport of %r does not end", session)
            self.disconnect(session, DisconnectCause.LOST, 1006, "")
        await self._finish_callbacks()
        self._stalled.cancel()

    async def _finish_callbacks(self) -> None:
        timeout = self.config.close_timeout
        tasks = self.tasks.running
        await self.tasks.wait(timeout)
        late = self._late.keys
        self._late.cancel()
        for session in late:
            session.cancel_step()
        self.tasks.cancel(tasks)
        await self.tasks.wait(timeout)
        for session in late:
            session.abandon_step()
        await self.tasks.wait(timeout)
        self.tasks.cancel(self.tasks.running)
        await self.tasks.wait(timeout)
        if self.tasks.running:
            logger.error("%d callbacks ignore their cancellation", len(self.tasks.running))
        self._late.cancel()

    async def _wait_gone(self, sessions: Sequence[Session]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.close_timeout):
                for session in sessions:
                    await session.wait_gone()

    # Subscriptions.

    def authorize(self, session: Session, channel: str) -> bool | Awaitable[bool]:
        """Ask whether a session may subscribe to a channel."""
        if is_between_hubs(channel):
            return False
        authorizer = self.config.channel_authorizer
        if authorizer is None:
            return True
        return self.callbacks.call("channel_authorizer", False, authorizer, session, channel)

    def add_subscription(
        self, session: Session, channel: str, is_allowed: object
    ) -> Future[None] | None:
        """Subscribe a session, if that was allowed.

        Returns:
            When messages of other hubs will arrive too; None for now, or if there are none.

        Raises:
            SubscriptionDeniedError: It was not.
            SubscriptionLimitError: The session has too many already.
        """
        # Nothing is taken for a yes that is not one, such as a coroutine nobody has awaited.
        if is_allowed is not True:
            raise SubscriptionDeniedError(channel)
        # The authorizer may have taken so long that the connection is gone.
        if session not in self.registry:
            return None
        self.registry.subscribe(session, channel)
        return self.bridging.carry(channel)

    def _tell_listeners(self, channel: str, message: Message) -> None:
        for listener in self._publish_listeners:
            self.callbacks.call_plain("publish listener", None, listener, channel, message)

    def _note_empty(self, channel: str) -> None:
        self.bridging.note_empty(channel)

    # Ends that the hub brings about.

    def _end(self, session: Session, cause: DisconnectCause, code: int, reason: str) -> None:
        if session in self.registry:
            session.ending = (cause, code, reason)
            if cause in (DisconnectCause.SERVER_CLOSED, DisconnectCause.AUTH_EXPIRED):
                self._fanout.flush(session)
            self.leave(session)
            session.start_close(code, reason)

    def _evict(self, session: Session) -> None:
        """Close a connection that reads too slowly; what still waits for it is dropped."""
        if session in self.registry:
            logger.warning("%r reads too slowly, closing it", session)
            self.counters.evictions += 1
            cause = DisconnectCause.SLOW_CONSUMER
            self._end(session, cause, CloseCode.TRY_AGAIN_LATER, "slow consumer")

    def _end_silent(self, session: Session) -> None:
        logger.info("%r is silent, closing it", session)
        cause = DisconnectCause.PONG_TIMEOUT
        self._end(session, cause, CloseCode.PONG_TIMEOUT, "pong timeout")

    def _end_expired(self, session: Session) -> None:
        logger.info("authentication of %r has expired, closing it", session)
        cause = DisconnectCause.AUTH_EXPIRED
        self._end(session, cause, CloseCode.UNAUTHORIZED, "authentication expired")

    def _end_late_step(self, session: Session) -> None:
        if not session.is_working:
            return
        if session.cancel_step():
            logger.warning("a callback of %r takes too long after its end, cancelling it", session)
        else:
            session.abandon_step()

    def _end_stalled(self, session: Session) -> None:
        """Abort a connection that has taken no byte for too long."""
        unsent = session.unsent_bytes()
        if unsent < session.outbox.unsent_bytes:
            # It is slow, but it goes on; and it is alive, even if it is not read from meanwhile.
            session.outbox.unsent_bytes = unsent
            session.last_heard = max(session.last_heard, self._clock.time())
            self._stalled.add(session)
            return
        # One that is being closed already has its cause, and was counted if it was slow.
        if session.ending is None:
            logger.warning("%r takes no bytes, aborting it", session)
            self.counters.evictions += 1
            code, reason = CloseCode.TRY_AGAIN_LATER, "write timeout"
            session.ending = (DisconnectCause.WRITE_TIMEOUT, code, reason)
        self.leave(session)
        session.abort()
