"""Operations on users, in the form in which hubs pass them to each other."""

from typing import TypeAlias

import msgspec

from wshub_core.values.channels import validate_channel
from wshub_core.values.closing import validate_close
from wshub_core.values.errors import MessageDecodeError, WSHubError

USERS_CHANNEL = "wshub:private:users"
"""The channel of the operations. Hubs with an authenticator are subscribed to it."""


class _Operation(msgspec.Struct, rename="camel", tag_field="operation"):
    user_id: str


class SendToUser(_Operation, tag="send"):
    """Send a message, which is in the form for clients, to the connections of a user."""

    message: msgspec.Raw


class SubscribeUser(_Operation, tag="subscribe"):
    """Subscribe the connections of a user to a channel."""

    channel: str


class UnsubscribeUser(_Operation, tag="unsubscribe"):
    """End the subscriptions of a user to a channel."""

    channel: str


class DisconnectUser(_Operation, tag="disconnect"):
    """Close the connections of a user."""

    code: int
    reason: str


UserOperation: TypeAlias = SendToUser | SubscribeUser | UnsubscribeUser | DisconnectUser


class _Carrier(msgspec.Struct):
    """The message that carries an operation."""

    data: UserOperation


_decoder = msgspec.json.Decoder(_Carrier)


def decode_user_operation(payload: bytes) -> UserOperation:
    """Return the operation that another hub has sent.

    Args:
        payload: The message of the other hub, one JSON object.

    Raises:
        MessageDecodeError: The message has no valid operation. A later version of wshub may know
            more operations.
    """
    try:
        operation = _decoder.decode(payload).data
        match operation:
            case SubscribeUser(channel=channel):
                validate_channel(channel)
            case DisconnectUser(code=code, reason=reason):
                validate_close(code, reason)
    except (msgspec.MsgspecError, UnicodeError, WSHubError) as error:
        raise MessageDecodeError(f"no valid operation on a user: {error}") from error
    return operation
