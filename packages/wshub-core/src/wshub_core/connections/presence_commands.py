"""The requests of clients for the members of a channel (wire protocol, "Presence")."""

from collections.abc import Awaitable, Coroutine

from wshub_core.connections.answers import MAX_NAME_LENGTH, REFUSAL_CODES, Answers
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.inbound import Work
from wshub_core.connections.presence import ChannelPresence
from wshub_core.loop.callbacks import Callbacks
from wshub_core.protocol.client_frames import RequestID
from wshub_core.protocol.registry import Registry
from wshub_core.values.channels import validate_channel
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import PresenceDeniedError, WSHubError
from wshub_core.values.messages import Message, MessageType

MAX_MEMBERS = 1_000
"""Maximum number of members in an answer to a client."""


class PresenceCommands:
    """Answers the ``presence`` frames of clients.

    Args:
        config: The hub's settings.
        registry: The hub's connections and their subscriptions.
        callbacks: Calls of the application's callbacks.
        presence: The members of channels.
        answers: Sends the answers.
    """

    def __init__(
        self,
        config: HubConfig,
        registry: Registry[ServerConnection],
        callbacks: Callbacks,
        presence: ChannelPresence,
        answers: Answers,
    ) -> None:
        self._authorizer = config.presence_authorizer
        self._registry = registry
        self._callbacks = callbacks
        self._presence = presence
        self._answers = answers

    def serve(self, connection: ServerConnection, message: Message, frame_id: RequestID) -> Work:
        """Serve a request; return a coroutine that finishes it, or None if it is finished."""
        try:
            validate_channel(message.channel)
            self._presence.settings_of(message.channel)
            # A plain authorizer decides now, so that a flood of refused requests needs no tasks.
            is_allowed = self._authorize(connection, message.channel)
            if is_allowed is False:
                raise PresenceDeniedError(message.channel)
        except WSHubError as exc:
            self._refuse(connection, message, frame_id, exc)
            return None
        return self._finish(connection, message, frame_id, is_allowed)

    def _authorize(self, connection: ServerConnection, channel: str) -> bool | Awaitable[bool]:
        if self._authorizer is None:
            return self._registry.is_subscribed(connection, channel)
        is_allowed = self._callbacks.call(
            "presence_authorizer", False, self._authorizer, connection, channel
        )
        # Only True allows; other truthy values do not.
        return is_allowed if isinstance(is_allowed, Coroutine) else is_allowed is True

    async def _finish(
        self,
        connection: ServerConnection,
        message: Message,
        frame_id: RequestID,
        is_allowed: bool | Awaitable[bool],
    ) -> None:
        channel = message.channel
        try:
            if not isinstance(is_allowed, bool) and await is_allowed is not True:
                raise PresenceDeniedError(channel)
            counts_only = isinstance(message.data, dict) and message.data.get("count") is True
            snapshot = await self._presence.read(channel, 0 if counts_only else MAX_MEMBERS)
        except WSHubError as exc:
            self._refuse(connection, message, frame_id, exc)
            return
        data = snapshot.count if counts_only else snapshot.answer
        answer = Message(type=MessageType.PRESENCE, channel=channel, data=data)
        self._answers.send(connection, frame_id, answer)

    def _refuse(
        self, connection: ServerConnection, message: Message, frame_id: RequestID, error: WSHubError
    ) -> None:
        code = REFUSAL_CODES[type(error)]
        name = message.channel[:MAX_NAME_LENGTH]
        text = f"Presence: {code.replace('_', ' ')}"
        refusal = Message(type=MessageType.ERROR, channel=name, data=text)
        self._answers.send(connection, frame_id, refusal, code)
