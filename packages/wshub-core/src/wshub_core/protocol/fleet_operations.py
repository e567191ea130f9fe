"""The operations that hubs pass to each other: those on users, and answers of the HTTP API."""

from typing import TypeAlias

import msgspec

from wshub_core.values.channels import validate_channel
from wshub_core.values.closing import validate_close
from wshub_core.values.errors import MessageDecodeError, WSHubError


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


class KeepAnswer(_Operation, tag="keep_answer"):
    """Keep an answer of the HTTP API, for a request of the user that is repeated at another hub."""

    request: str
    key: str
    digest: str
    answer: msgspec.Raw


FleetOperation: TypeAlias = (
    SendToUser | SubscribeUser | UnsubscribeUser | DisconnectUser | KeepAnswer
)


class _Carrier(msgspec.Struct):
    """The message that carries an operation."""

    data: FleetOperation


_decoder = msgspec.json.Decoder(_Carrier)


def decode_operation(payload: bytes) -> FleetOperation:
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
        raise MessageDecodeError(f"no valid operation of a hub: {error}") from error
    return operation
