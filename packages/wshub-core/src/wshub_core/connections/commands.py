"""The commands of clients, and the hub's answers (wire protocol, "Client frames")."""

from collections.abc import Awaitable, Coroutine

from wshub_core.connections.admission import Admission
from wshub_core.connections.answers import (
    MAX_NAME_LENGTH,
    REFUSAL_CODES,
    REFUSAL_TEXTS,
    Answers,
)
from wshub_core.connections.auth_expiry import AuthExpiry
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.inbound import Work
from wshub_core.connections.presence_commands import PresenceCommands
from wshub_core.connections.publishing import Publishing
from wshub_core.connections.spans import make_spans
from wshub_core.connections.subscribe_commands import SubscribeCommands
from wshub_core.connections.subscriptions import Subscriptions
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
    PublishDeniedError,
    SubscriptionDeniedError,
    WSHubError,
)
from wshub_core.values.messages import Message, MessageType

logger = get_logger("wshub.connections")

_PUBLISHABLE = {MessageType.EVENT, MessageType.PROCESS_OUTPUT, MessageType.PROCESS_STATUS}
"""Types that clients may publish, with a publish authorizer."""

_COMMANDS = {*_PUBLISHABLE, MessageType.AUTHENTICATE, MessageType.PRESENCE}
"""Types that the hub may serve itself. Other messages are for the application."""


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
        subscribe_commands: Serves requests to subscribe.
        publishing: Publishes messages, and sends messages to one connection.
        answers: Sends the answers.
        presence_commands: Serves requests for members; None for a hub without presence.
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
        subscribe_commands: SubscribeCommands,
        publishing: Publishing,
        answers: Answers,
        presence_commands: PresenceCommands | None,
    ) -> None:
        self._config = config
        self._spans = make_spans(config)
        self._counters = counters
        self._registry = registry
        self._callbacks = callbacks
        self._admission = admission
        self._auth_expiry = auth_expiry
        self._subscriptions = subscriptions
        self._subscribe_commands = subscribe_commands
        self._publishing = publishing
        self._answers = answers
        self._presence_commands = presence_commands

    def serve(self, connection: ServerConnection, payload: bytes | bytearray) -> Work:
        """Serve one frame.

        Returns:
            A coroutine that finishes the command, or None if the command is finished.
        """
        # The frame may have waited in the queue while the hub closed the connection.
        if connection.ending is not None:
            return None
        self._counters.received_messages += 1
        self._counters.received_bytes += len(payload)
        match read_client_frame(payload):
            case Other(message, frame_id):  # first, because it is the most frequent one
                if message.type in _COMMANDS:
                    return self._serve_command(connection, message, frame_id)
                return self._serve_message(connection, message, frame_id)
            case Ping(frame_id):
                self._answers.send(
                    connection, frame_id, Message(type=MessageType.PONG), always=True
                )
            case Unsubscribe(channel, frame_id):
                self._subscriptions.unsubscribe(connection, channel)
                name = channel[:MAX_NAME_LENGTH]
                message = Message(type=MessageType.UNSUBSCRIBED, channel=name)
                self._answers.send(connection, frame_id, message)
            case Subscribe() as request:
                return self._subscribe_commands.serve(connection, request)
            case Malformed(why, frame_id):
                self._counters.ignored_frames += 1
                message = Message(type=MessageType.ERROR, data=f"malformed frame: {why}")
                self._answers.send(connection, frame_id, message, "malformed_frame")
            case None:
                self._counters.ignored_frames += 1
        return None

    def _serve_command(
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
            case Message(type=MessageType.PRESENCE) if (
                self._presence_commands is not None and frame_id is not None
            ):
                return self._presence_commands.serve(connection, message, frame_id)
        return self._serve_message(connection, message, frame_id)

    def _serve_message(
        self, connection: ServerConnection, message: Message, frame_id: RequestID
    ) -> Work:
        """Serve a message that is for the application."""
        on_message = self._config.on_message
        if on_message is not None:
            if self._spans is not None and message.traceparent:
                on_message = self._spans.link_to("on_message", message, on_message)
            return self._callbacks.run("on_message", on_message, connection, message)
        # The client has chosen the type, which can fill a message.
        text = f"{message.type[:80]}: not served here"
        self._answers.send(
            connection, frame_id, Message(type=MessageType.ERROR, data=text), "not_served"
        )
        return None

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
            self._answers.send(connection, frame_id, published)

    def _refuse_publish(
        self, connection: ServerConnection, message: Message, frame_id: RequestID, error: WSHubError
    ) -> None:
        code = REFUSAL_CODES[type(error)]
        text = f"Publish: {code.replace('_', ' ')}"
        name = message.channel[:MAX_NAME_LENGTH]
        refusal = Message(type=MessageType.ERROR, channel=name, data=text)
        self._answers.send(connection, frame_id, refusal, code)

    # Authenticating again.

    async def _serve_authenticate(
        self, connection: ServerConnection, token: str, frame_id: RequestID
    ) -> None:
        result = await self._admission.authenticate_token(token, connection.context)
        # A connection cannot change its user: its subscriptions were authorized for the first user.
        if not result.valid or result.user_id != connection.user_id:
            logger.info("refused a new token of %r", connection)
            refusal = Message(type=MessageType.ERROR, data="Authenticate: token refused")
            self._answers.send(connection, frame_id, refusal, "token_refused", always=True)
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
        self._answers.send(connection, frame_id, message, always=True)
