"""The connection manager: lets connections in, serves their frames, and lets them go."""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from inspect import isawaitable
from itertools import count
from typing import Any

from wshub_core.runtime.connection import Connection
from wshub_core.runtime.fanout import Fanout
from wshub_core.runtime.session import Session
from wshub_core.runtime.transport import Transport
from wshub_core.state.client_frames import Ping, Subscribe, Unsubscribe, read_client_frame
from wshub_core.state.outbox import Outbox
from wshub_core.state.prepared import PreparedMessage
from wshub_core.state.registry import Registry
from wshub_core.values.channels import validate_channel
from wshub_core.values.closing import CloseCode
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import (
    InvalidChannelError,
    InvalidProcessIDError,
    SubscriptionDeniedError,
    SubscriptionLimitError,
    WSHubError,
)
from wshub_core.values.http import Request, Response
from wshub_core.values.messages import Message, MessageType, encode_message
from wshub_core.values.origins import origin_allowed

logger = logging.getLogger("wshub.connections")

REFUSAL_TEXTS: dict[type[WSHubError], str] = {
    InvalidChannelError: "Subscribe: invalid channel name",
    InvalidProcessIDError: "Subscribe: invalid process ID",
    SubscriptionDeniedError: "Subscribe: subscription unauthorised",
    SubscriptionLimitError: "subscription limit exceeded",
}
"""What a client reads when a subscription is refused. Clients compare these texts."""


class ConnectionManager:
    """All connections of one hub, from the opening handshake to the end.

    This is the side of the hub that transports see: `admit` a request, `connect` its transport,
    pass on what the peer sends and how writing goes, and say when the transport is gone.

    Attributes:
        registry: Who is connected, and who is subscribed to what. What is not in it gets nothing
            and is not listened to.
    """

    def __init__(self, config: HubConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._is_closing = False
        self._ids = count(1)
        self._fanout = Fanout(loop, self._evict)
        # Every session with a transport, so also those that are being closed.
        self._sessions: set[Session] = set()
        self.registry: Registry[Session] = Registry(config.max_subscriptions)

    # What transports call.

    def admit(self, request: Request) -> Response | None:
        """Judge a request to connect; return the refusal, or None to let it in."""
        if self._is_closing:
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, b"Hub is not running\n")
        if not origin_allowed(request, self._config.allowed_origins):
            logger.info(
                "refused origin %r from %s", request.header("origin"), request.remote_address
            )
            return Response(HTTPStatus.FORBIDDEN, b"Forbidden\n")
        return None

    def connect(self, transport: Transport, remote_address: str) -> Session:
        """Take in a connection whose handshake has succeeded."""
        outbox = Outbox(self._config.max_outbox_bytes)
        session = Session(next(self._ids), remote_address, self, transport, outbox)
        self._sessions.add(session)
        self.registry.add(session)
        logger.debug("%r connected", session)
        return session

    def pause_writing(self, session: Session) -> None:
        """Note that a transport takes no more bytes for now."""
        session.is_writable = False

    def resume_writing(self, session: Session) -> None:
        """Note that a transport has passed on all it had, and takes more."""
        session.is_writable = True
        session.outbox.set_unsent(0)
        self._fanout.resume(session)

    def leave(self, session: Session) -> None:
        """Note that the peer has ended the conversation: nothing is for it or from it any more."""
        self.registry.remove(session)
        session.outbox.seal()

    def disconnect(self, session: Session, code: int, reason: str) -> None:
        """Note that a transport is gone, whatever the cause."""
        self.leave(session)
        self._sessions.discard(session)
        session.lose_transport()
        logger.debug("%r disconnected: %d %s", session, code, reason)

    # What sessions call.

    def subscriptions_of(self, session: Session) -> tuple[str, ...]:
        """Return the channels of a session, sorted."""
        return self.registry.channels_of(session)

    def close(self, session: Session, code: int, reason: str) -> None:
        """Take a session out of the hub; it gets what was queued, then the close frame."""
        if self.registry.remove(session):
            self._fanout.flush(session)
            session.outbox.seal()
            session.start_close(code, reason)

    def serve_frame(
        self, session: Session, payload: bytes | bytearray
    ) -> Coroutine[Any, Any, None] | None:
        """Do what a frame asks for; return a coroutine if an authorizer takes its time."""
        # A connection that is being closed may still send; nothing it asks for may take root.
        if session in self.registry:
            match read_client_frame(payload):
                case Ping():
                    self._reply(session, Message(type=MessageType.PONG))
                case Unsubscribe(channel):
                    self.registry.unsubscribe(session, channel)
                case Subscribe(channel):
                    return self._serve_subscribe(session, channel)
        return None

    # What the hub calls.

    def broadcast(self, message: PreparedMessage) -> None:
        """Deliver a message to every connection."""
        self._fanout.send_all(self.registry.connections, message)

    def publish(self, channel: str, message: PreparedMessage) -> None:
        """Deliver a message to every subscriber of a channel."""
        self._fanout.send_all(self.registry.subscribers_of(channel), message)

    async def subscribe(self, connection: Connection, channel: str) -> None:
        """Subscribe a connection; see `Hub.subscribe`."""
        if isinstance(connection, Session) and connection in self.registry:
            validate_channel(channel)
            is_allowed = self._authorize(connection, channel)
            if isawaitable(is_allowed):
                is_allowed = await is_allowed
            self._subscribe(connection, channel, is_allowed)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        """End a subscription; see `Hub.unsubscribe`."""
        if isinstance(connection, Session):
            self.registry.unsubscribe(connection, channel)

    async def close_all(self, code: int, reason: str) -> None:
        """Refuse who knocks, close every connection, and wait until the last is gone."""
        self._is_closing = True
        sessions = tuple(self._sessions)
        for session in sessions:
            self.close(session, code, reason)
        for session in sessions:
            await session.wait_gone()

    # Subscriptions.

    def _authorize(self, session: Session, channel: str) -> bool | Awaitable[bool]:
        authorizer = self._config.channel_authorizer
        if authorizer is None:
            return True
        try:
            is_allowed = authorizer(session, channel)
        except Exception:
            return self._deny_after_error(session, channel)
        if isawaitable(is_allowed):
            return self._wait_for_authorizer(session, channel, is_allowed)
        return is_allowed

    async def _wait_for_authorizer(
        self, session: Session, channel: str, is_allowed: Awaitable[bool]
    ) -> bool:
        try:
            return await is_allowed
        except Exception:
            return self._deny_after_error(session, channel)

    def _deny_after_error(self, session: Session, channel: str) -> bool:
        logger.exception("channel authorizer failed for %r on %s", session, channel)
        return False

    def _subscribe(self, session: Session, channel: str, is_allowed: bool) -> None:
        if not is_allowed:
            raise SubscriptionDeniedError(channel)
        # The authorizer may have taken so long that the connection is gone.
        if session in self.registry:
            self.registry.subscribe(session, channel)

    def _serve_subscribe(self, session: Session, channel: str) -> Coroutine[Any, Any, None] | None:
        try:
            validate_channel(channel)
            is_allowed = self._authorize(session, channel)
            if isawaitable(is_allowed):
                return self._finish_subscribe(session, channel, is_allowed)
            self._subscribe(session, channel, is_allowed)
        except WSHubError as exc:
            self._refuse(session, exc)
        return None

    async def _finish_subscribe(
        self, session: Session, channel: str, is_allowed: Awaitable[bool]
    ) -> None:
        try:
            self._subscribe(session, channel, await is_allowed)
        except WSHubError as exc:
            self._refuse(session, exc)

    # Replies and evictions.

    def _refuse(self, session: Session, error: WSHubError) -> None:
        self._reply(session, Message(type=MessageType.ERROR, data=REFUSAL_TEXTS[type(error)]))

    def _reply(self, session: Session, message: Message) -> None:
        if session not in self.registry:
            return
        stamped = Message(type=message.type, data=message.data, timestamp=datetime.now(UTC))
        self._fanout.send_one(session, PreparedMessage(encode_message(stamped)))

    def _evict(self, session: Session) -> None:
        """Close a connection that reads too slowly; what still waits for it is dropped."""
        if not self.registry.remove(session):
            return
        logger.warning("%r reads too slowly, closing it", session)
        session.outbox.seal()
        session.start_close(CloseCode.SLOW_CONSUMER, "slow consumer")
