"""Operations on all connections of a user: carried out here, and passed to the other hubs."""

from collections.abc import Callable

import msgspec

from wshub_core.bridge.relay import Relay
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.publishing import Publishing
from wshub_core.connections.subscriptions import Subscriptions
from wshub_core.protocol.user_index import UserIndex
from wshub_core.protocol.user_operations import (
    USERS_CHANNEL,
    DisconnectUser,
    SendToUser,
    SubscribeUser,
    UnsubscribeUser,
    UserOperation,
    decode_user_operation,
)
from wshub_core.values.channels import validate_channel
from wshub_core.values.closing import validate_close
from wshub_core.values.messages import Message, MessageType
from wshub_core.values.preparation import encode_stamped


class UserOperations:
    """Acts on the connections of users, on this hub and through the bridge on the others.

    Each operation is checked before the first hub carries it out.

    Args:
        max_message_bytes: Largest payload of a message, in bytes.
        users: The connections of each user.
        relay: Forwards operations to the other hubs.
        subscriptions: Subscribes connections to channels.
        publishing: Encodes and delivers messages.
        close: Closes a connection with a code and a reason.
    """

    def __init__(
        self,
        max_message_bytes: int,
        users: UserIndex[ServerConnection],
        relay: Relay,
        subscriptions: Subscriptions,
        publishing: Publishing,
        close: Callable[[ServerConnection, int, str], None],
    ) -> None:
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

    def take(self, payload: bytes) -> None:
        """Carry out an operation of another hub.

        Raises:
            MessageDecodeError: The payload is not an operation, or its message is not a message.
            MessageTooLargeError: The message exceeds ``max_message_bytes``.
        """
        match decode_user_operation(payload):
            case SendToUser(user_id, message):
                self._publishing.deliver_to(self._users.find(user_id), bytes(message))
            case SubscribeUser(user_id, channel):
                for connection in self._users.find(user_id):
                    self._subscriptions.subscribe_nowait(connection, channel)
            case UnsubscribeUser(user_id, channel):
                self._unsubscribe(user_id, channel)
            case DisconnectUser(user_id, code, reason):
                self._disconnect(user_id, code, reason)

    def _unsubscribe(self, user_id: str, channel: str) -> int:
        connections = self._users.find(user_id)
        return sum(self._subscriptions.unsubscribe(each, channel) for each in connections)

    def _disconnect(self, user_id: str, code: int, reason: str) -> int:
        connections = self._users.find(user_id)
        for connection in connections:
            self._close(connection, code, reason)
        return len(connections)

    def _forward(self, operation: UserOperation) -> None:
        if self._relay.has_bridge:
            message = Message(type=MessageType.EVENT, data=operation)
            reserved_bytes = self._relay.reserved_bytes
            _, payload = encode_stamped(
                message, USERS_CHANNEL, self._max_message_bytes, reserved_bytes
            )
            self._relay.forward(USERS_CHANNEL, payload)
