"""Operations of the whole fleet: carried out here, and passed to the other hubs."""

import contextlib
from collections.abc import Callable

import msgspec

from wshub_core.bridge.relay import Relay
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.publishing import Publishing
from wshub_core.connections.subscriptions import Subscriptions
from wshub_core.protocol.fleet_operations import (
    DisconnectUser,
    FleetOperation,
    KeepAnswer,
    SendToUser,
    SubscribeUser,
    UnsubscribeUser,
    decode_operation,
)
from wshub_core.protocol.kept_answers import AnswerKey, KeptAnswer, KeptAnswers
from wshub_core.protocol.user_index import UserIndex
from wshub_core.values.channels import FLEET_CHANNEL, validate_channel
from wshub_core.values.closing import validate_close
from wshub_core.values.errors import MessageTooLargeError
from wshub_core.values.messages import Message, MessageType
from wshub_core.values.preparation import encode_stamped


class FleetOperations:
    """Acts on the connections of users, and keeps answers, on this hub and on the others.

    Each operation is checked before the first hub carries it out. The bridge passes operations on
    as messages, so no hub answers another one.

    Args:
        now: Returns the time of the hub's clock.
        max_message_bytes: Largest payload of a message, in bytes.
        users: The connections of each user.
        relay: Forwards operations to the other hubs.
        subscriptions: Subscribes connections to channels.
        publishing: Encodes and delivers messages.
        close: Closes a connection with a code and a reason.
    """

    def __init__(
        self,
        now: Callable[[], float],
        max_message_bytes: int,
        users: UserIndex[ServerConnection],
        relay: Relay,
        subscriptions: Subscriptions,
        publishing: Publishing,
        close: Callable[[ServerConnection, int, str], None],
    ) -> None:
        self._answers = KeptAnswers(now)
        self._max_message_bytes = max_message_bytes
        self._users = users
        self._relay = relay
        self._subscriptions = subscriptions
        self._publishing = publishing
        self._close = close

    def send(self, user_id: str, message: Message) -> int:
        """Send a message to a user; see `Hub.send_to_user`."""
        payload = self._publishing.encode_for_user(message)
        self._forward(SendToUser(user_id, msgspec.Raw(payload)))
        connections = self._users.find(user_id)
        self._publishing.send_encoded(connections, payload)
        return len(connections)

    async def subscribe(self, user_id: str, channel: str) -> int:
        """Subscribe a user to a channel; see `Hub.subscribe_user`."""
        validate_channel(channel)
        self._forward(SubscribeUser(user_id, channel))
        connections = self._users.find(user_id)
        await self._subscriptions.subscribe_all_and_wait(connections, channel)
        return len(connections)

    def unsubscribe(self, user_id: str, channel: str) -> int:
        """Unsubscribe a user from a channel; see `Hub.unsubscribe_user`."""
        self._forward(UnsubscribeUser(user_id, channel))
        return self._unsubscribe(user_id, channel)

    def disconnect(self, user_id: str, code: int, reason: str) -> int:
        """Close the connections of a user; see `Hub.disconnect_user`."""
        validate_close(code, reason)
        self._forward(DisconnectUser(user_id, code, reason))
        return self._disconnect(user_id, code, reason)

    def find_answer(self, key: AnswerKey) -> KeptAnswer | None:
        """Return the answer of this hub, or of another one, to an earlier request."""
        return self._answers.find(key)

    def keep_answer(self, key: AnswerKey, answer: KeptAnswer) -> None:
        """Keep the answer to a request, which the client may repeat at any hub.

        An answer that is too large for a message stays on this hub.
        """
        self._answers.keep(key, answer)
        with contextlib.suppress(MessageTooLargeError):
            self._forward(
                KeepAnswer(
                    key.user_id, key.operation, key.key, answer.digest, msgspec.Raw(answer.answer)
                )
            )

    def take(self, payload: bytes) -> None:
        """Carry out an operation of another hub.

        Raises:
            MessageDecodeError: The payload is not an operation, or its message is not a message.
            MessageTooLargeError: The message exceeds ``max_message_bytes``.
        """
        match decode_operation(payload):
            case SendToUser(user_id, message):
                self._publishing.deliver_to(self._users.find(user_id), bytes(message))
            case SubscribeUser(user_id, channel):
                for connection in self._users.find(user_id):
                    self._subscriptions.subscribe_nowait(connection, channel)
            case UnsubscribeUser(user_id, channel):
                self._unsubscribe(user_id, channel)
            case DisconnectUser(user_id, code, reason):
                self._disconnect(user_id, code, reason)
            case KeepAnswer(user_id, request, key, digest, answer):
                kept = KeptAnswer(digest, bytes(answer))
                self._answers.keep(AnswerKey(user_id, request, key), kept)

    def _unsubscribe(self, user_id: str, channel: str) -> int:
        connections = self._users.find(user_id)
        return sum(self._subscriptions.unsubscribe(each, channel) for each in connections)

    def _disconnect(self, user_id: str, code: int, reason: str) -> int:
        connections = self._users.find(user_id)
        for connection in connections:
            self._close(connection, code, reason)
        return len(connections)

    def _forward(self, operation: FleetOperation) -> None:
        if self._relay.has_bridge:
            message = Message(type=MessageType.EVENT, data=operation)
            reserved_bytes = self._relay.reserved_bytes
            _, payload = encode_stamped(
                message, FLEET_CHANNEL, self._max_message_bytes, reserved_bytes
            )
            self._relay.forward(FLEET_CHANNEL, payload)
