"""The commands of clients, and the hub's answers (wire protocol, "Client frames")."""

from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import Any

from wshub_core.connections.admission import Admission
from wshub_core.connections.auth_expiry import AuthExpiry
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.inbound import Work
from wshub_core.connections.presence import ChannelPresence
from wshub_core.connections.presence_commands import PresenceCommands
from wshub_core.connections.publishing import Publishing
from wshub_core.connections.subscriptions import Bridged, Subscriptions
from wshub_core.logs import get_logger
from wshub_core.loop.callbacks import Callbacks
from wshub_core.protocol.client_frames import (
    Malformed,
    Other,
    Ping,
    RequestID,
    Subscribe,
    Unsubscribe,
    read_client_frame,
)
from wshub_core.protocol.counters import Counters
from wshub_core.protocol.registry import Registry
from wshub_core.values.channels import is_for_hubs, validate_channel
from wshub_core.values.config import HubConfig, PublishAuthorizer
from wshub_core.values.errors import (
    InvalidChannelError,
    InvalidProcessIDError,
    MessageEncodeError,
    MessageTooLargeError,
    PublishDeniedError,
    SubscriptionDeniedError,
    SubscriptionLimitError,
    WSHubError,
)
from wshub_core.values.messages import Message, MessageType, Reply

logger = get_logger("wshub.connections")

REFUSAL_TEXTS: dict[type[WSHubError], str] = {
    InvalidChannelError: "Subscribe: invalid channel name",
    InvalidProcessIDError: "Subscribe: invalid process ID",
    SubscriptionDeniedError: "Subscribe: subscription unauthorised",
    SubscriptionLimitError: "subscription limit exceeded",
}
"""Texts for refused subscriptions. Clients compare them, so they never change."""

REFUSAL_CODES: dict[type[WSHubError], str] = {
    InvalidChannelError: "invalid_channel",
    InvalidProcessIDError: "invalid_process_id",
    MessageEncodeError: "invalid_message",
    MessageTooLargeError: "message_too_large",
    PublishDeniedError: "publish_denied",
    SubscriptionDeniedError: "subscription_denied",
    SubscriptionLimitError: "subscription_limit",
}
"""Machine-readable codes, for answers to frames with an ``id``."""

_PUBLISHABLE = {MessageType.EVENT, MessageType.PROCESS_OUTPUT, MessageType.PROCESS_STATUS}
"""Types that clients may publish, with a publish authorizer."""

_MAX_NAME_LENGTH = 256
"""Number of characters of a channel name in a refusal; an invalid name can fill the message."""


class Commands:
    """Serves the frames of clients.

    The frames of one connection are served one after the other. A frame with an ``id`` gets an
    answer with this ``id``, unless ``on_message`` serves it.

    Args:
        config: The hub's settings.
        counters: The hub's counters.
        registry: The hub's connections and their subscriptions.
        callbacks: Calls of the application's callbacks.
        admission: Authenticates clients by tokens.
        auth_expiry: Closes connections whose authentication expires.
        subscriptions: Subscribes connections to channels.
        publishing: Publishes messages, and sends messages to one connection.
        presence: The members of channels; None if no channel has presence.
    """

    def __init__(
        self,
        config: HubConfig,
        counters: Counters,
        registry: Registry[ServerConnection],
        callbacks: Callbacks,
        admission: Admission,
        auth_expiry: AuthExpiry,
        subscriptions: Subscriptions,
        publishing: Publishing,
        presence: ChannelPresence | None = None,
    ) -> None:
        self._config = config
        self._counters = counters
        self._registry = registry
        self._callbacks = callbacks
        self._admission = admission
        self._auth_expiry = auth_expiry
        self._subscriptions = subscriptions
        self._publishing = publishing
        self._presence = presence and PresenceCommands(
            config, registry, callbacks, presence, self._reply
        )

    def serve(self, connection: ServerConnection, payload: bytes | bytearray) -> Work:
        """Serve one frame.

        Returns:
            A coroutine that finishes the command, or None if the command is finished.
        """
        # The frame may have waited in the queue while the hub closed the connection.
        if connection.ending is not None:
            return None
        match read_client_frame(payload):
            case Ping(frame_id):
                self._reply(connection, frame_id, Message(type=MessageType.PONG), always=True)
            case Unsubscribe(channel, frame_id):
                self._subscriptions.unsubscribe(connection, channel)
                name = channel[:_MAX_NAME_LENGTH]
                message = Message(type=MessageType.UNSUBSCRIBED, channel=name)
                self._reply(connection, frame_id, message)
            case Subscribe(channel, frame_id):
                return self._serve_subscribe(connection, channel, frame_id)
            case Other(message, frame_id):
                return self._serve_message(connection, message, frame_id)
            case Malformed(why, frame_id):
                self._counters.ignored_frames += 1
                message = Message(type=MessageType.ERROR, data=f"malformed frame: {why}")
                self._reply(connection, frame_id, message, "malformed_frame")
            case None:
                self._counters.ignored_frames += 1
        return None

    def _serve_message(
        self, connection: ServerConnection, message: Message, frame_id: RequestID
    ) -> Work:
        match message:
            case Message(type=MessageType.AUTHENTICATE, data=str(token)) if (
                self._admission.accepts_tokens
            ):
                return self._serve_authenticate(connection, token, frame_id)
            case Message(type=type, channel=channel) if (
                type in _PUBLISHABLE and channel and self._config.publish_authorizer is not None
            ):
                authorizer = self._config.publish_authorizer
                return self._serve_publish(connection, message, frame_id, authorizer)
            case Message(type=MessageType.PRESENCE) if self._presence and frame_id is not None:
                return self._presence.serve(connection, message, frame_id)
        if self._config.on_message is not None:
            return self._callbacks.run("on_message", self._config.on_message, connection, message)
        # The client has chosen the type, which can fill a message.
        text = f"{message.type[:80]}: not served here"
        self._reply(connection, frame_id, Message(type=MessageType.ERROR, data=text), "not_served")
        return None

    def _reply(
        self,
        connection: ServerConnection,
        frame_id: RequestID,
        message: Message,
        code: str = "",
        *,
        always: bool = False,
    ) -> None:
        """Answer a frame.

        Args:
            connection: The client's connection.
            frame_id: The ``id`` of the frame; None for a frame without one, which gets no answer
                because clients of go-ws do not expect any.
            message: The answer.
            code: The code of a refusal.
            always: Whether a frame without an ``id`` is answered too, as go-ws does.
        """
        if frame_id is not None:
            fields = {field: getattr(message, field) for field in message.__struct_fields__}
            message = Reply(id=frame_id, code=code, **fields)
        elif not always:
            return
        try:
            self._publishing.send(connection, message)
        except MessageTooLargeError:
            # The answer repeats the frame's ``id``, which may be almost as long as a message.
            logger.warning("an answer to %r exceeds max_message_bytes and is not sent", connection)

    # Subscribing.

    def _serve_subscribe(
        self, connection: ServerConnection, channel: str, frame_id: RequestID
    ) -> Work:
        try:
            bridged = self._subscriptions.subscribe(connection, channel)
        except WSHubError as exc:
            self._refuse_subscription(connection, channel, frame_id, exc)
            return None
        if isinstance(bridged, Coroutine):
            return self._finish_subscribe(connection, channel, frame_id, bridged)
        if bridged is not None:
            return self._confirm_when_bridged(connection, channel, frame_id, bridged)
        self._confirm_subscription(connection, channel, frame_id)
        return None

    async def _finish_subscribe(
        self,
        connection: ServerConnection,
        channel: str,
        frame_id: RequestID,
        adding: Coroutine[Any, Any, Bridged],
    ) -> None:
        try:
            bridged = await adding
        except WSHubError as exc:
            self._refuse_subscription(connection, channel, frame_id, exc)
        else:
            await self._confirm_when_bridged(connection, channel, frame_id, bridged)

    async def _confirm_when_bridged(
        self, connection: ServerConnection, channel: str, frame_id: RequestID, bridged: Bridged
    ) -> None:
        # A frame without an ``id`` gets no confirmation. The following frames still wait until the
        # channel is bridged, as they do behind a frame with an ``id``.
        confirm = None
        if frame_id is not None:
            confirm = partial(self._confirm_subscription, connection, channel, frame_id)
        await self._subscriptions.confirm(connection, channel, bridged, confirm)

    def _confirm_subscription(
        self, connection: ServerConnection, channel: str, frame_id: RequestID
    ) -> None:
        self._reply(connection, frame_id, Message(type=MessageType.SUBSCRIBED, channel=channel))

    def _refuse_subscription(
        self, connection: ServerConnection, channel: str, frame_id: RequestID, error: WSHubError
    ) -> None:
        text, code = REFUSAL_TEXTS[type(error)], REFUSAL_CODES[type(error)]
        # go-ws does not name the channel in a refusal. Answers to frames with an ``id`` do.
        named = "" if frame_id is None else channel[:_MAX_NAME_LENGTH]
        message = Message(type=MessageType.ERROR, channel=named, data=text)
        self._reply(connection, frame_id, message, code, always=True)

    # Publishing.

    def _serve_publish(
        self,
        connection: ServerConnection,
        message: Message,
        frame_id: RequestID,
        authorizer: PublishAuthorizer,
    ) -> Work:
        # The client may have left meanwhile. It sent the frame before, so the message is published.
        try:
            validate_channel(message.channel)
            if is_for_hubs(message.channel):
                raise PublishDeniedError(message.channel)
        except WSHubError as exc:
            self._refuse_publish(connection, message, frame_id, exc)
            return None
        is_allowed = self._callbacks.call(
            "publish_authorizer", False, authorizer, connection, message.channel
        )
        if isinstance(is_allowed, Coroutine):
            return self._finish_publish(connection, message, frame_id, is_allowed)
        self._publish_if_allowed(connection, message, frame_id, is_allowed)
        return None

    async def _finish_publish(
        self,
        connection: ServerConnection,
        message: Message,
        frame_id: RequestID,
        is_allowed: Awaitable[bool],
    ) -> None:
        self._publish_if_allowed(connection, message, frame_id, await is_allowed)

    def _publish_if_allowed(
        self, connection: ServerConnection, message: Message, frame_id: RequestID, is_allowed: bool
    ) -> None:
        channel = message.channel
        try:
            if is_allowed is not True:
                raise PublishDeniedError(channel)
            self._publishing.publish(channel, message)
        except WSHubError as exc:
            self._refuse_publish(connection, message, frame_id, exc)
        else:
            published = Message(type=MessageType.PUBLISHED, channel=channel)
            self._reply(connection, frame_id, published)

    def _refuse_publish(
        self, connection: ServerConnection, message: Message, frame_id: RequestID, error: WSHubError
    ) -> None:
        code = REFUSAL_CODES[type(error)]
        text = f"Publish: {code.replace('_', ' ')}"
        name = message.channel[:_MAX_NAME_LENGTH]
        refusal = Message(type=MessageType.ERROR, channel=name, data=text)
        self._reply(connection, frame_id, refusal, code)

    # Authenticating again.

    async def _serve_authenticate(
        self, connection: ServerConnection, token: str, frame_id: RequestID
    ) -> None:
        result = await self._admission.authenticate_token(token, connection.context)
        # A connection cannot change its user: its subscriptions were authorized for the first user.
        if not result.valid or result.user_id != connection.user_id:
            logger.info("refused a new token of %r", connection)
            refusal = Message(type=MessageType.ERROR, data="Authenticate: token refused")
            self._reply(connection, frame_id, refusal, "token_refused", always=True)
            return
        # The connection may have ended while the authenticator ran.
        if connection not in self._registry:
            return
        # Before the authorizer is asked again, which may read the claims.
        connection.claims = result.claims
        self._auth_expiry.set(connection, result.expires_at)
        async for channel in self._subscriptions.reauthorize(connection):
            text = REFUSAL_TEXTS[SubscriptionDeniedError]
            message = Message(type=MessageType.ERROR, channel=channel, data=text)
            self._publishing.send(connection, message)
        # Last: the client then knows all subscriptions that it has lost.
        data = {"expiresAt": result.expires_at}
        message = Message(type=MessageType.AUTHENTICATED, data=data)
        self._reply(connection, frame_id, message, always=True)
