"""The answers to the frames of clients (wire protocol, "Answers")."""

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.publishing import Publishing
from wshub_core.logs import get_logger
from wshub_core.protocol.client_frames import RequestID
from wshub_core.values.errors import (
    InvalidChannelError,
    InvalidHistoryRequestError,
    InvalidProcessIDError,
    MessageEncodeError,
    MessageTooLargeError,
    NoPresenceError,
    PresenceDeniedError,
    PresenceUnavailableError,
    PublishDeniedError,
    SubscriptionDeniedError,
    SubscriptionLimitError,
    WSHubError,
)
from wshub_core.values.messages import Message, Reply

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
    InvalidHistoryRequestError: "invalid_history",
    InvalidProcessIDError: "invalid_process_id",
    MessageEncodeError: "invalid_message",
    MessageTooLargeError: "message_too_large",
    NoPresenceError: "no_presence",
    PresenceDeniedError: "presence_denied",
    PresenceUnavailableError: "presence_unavailable",
    PublishDeniedError: "publish_denied",
    SubscriptionDeniedError: "subscription_denied",
    SubscriptionLimitError: "subscription_limit",
}
"""Machine-readable codes, for answers to frames with an ``id``."""

MAX_NAME_LENGTH = 256
"""Number of characters of a channel name in a refusal; an invalid name can fill the message."""


class Answers:
    """Sends the answers to frames.

    Args:
        publishing: Sends messages to one connection.
    """

    def __init__(self, publishing: Publishing) -> None:
        self._publishing = publishing

    def send(
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
