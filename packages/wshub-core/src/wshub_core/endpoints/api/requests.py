"""The JSON objects of requests to the HTTP API."""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from wshub_core.values.closing import CloseCode
from wshub_core.values.history import MAX_OFFSET
from wshub_core.values.messages import JSON, Message, MessageType

MAX_BATCH = 100
"""Maximum number of messages in a batch. The event loop waits while they are encoded, for a
millisecond or two, or for up to 170 ms if a batch of the largest size has nothing but empty lists.
"""

_Channel = Annotated[str, Meta(description="The name of the channel.")]
_UserID = Annotated[str, Meta(min_length=1, description="The id of the user.")]
_Code = Annotated[
    int,
    Meta(
        ge=1000,
        le=4999,
        description="The close code. After 1008 the clients of wshub do not connect again; after "
        "1000 they do.",
    ),
]
_Reason = Annotated[str, Meta(description="A text for the client, of at most 123 bytes in UTF-8.")]


class _Request(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename="camel",
):
    pass


class _MessageRequest(_Request, frozen=True, kw_only=True):
    type: Annotated[str, Meta(min_length=1, description="The type of the message.")] = (
        MessageType.EVENT.value
    )
    data: Annotated[JSON, Meta(description="Any JSON value.")] = None
    process_id: Annotated[
        str, Meta(description="The process of a message about a process; empty for none.")
    ] = ""
    overwrites: Annotated[
        bool, Meta(description="Whether a line of process output replaces the line before it.")
    ] = False

    def to_message(self) -> Message:
        """Return the message."""
        return Message(
            type=self.type,
            data=self.data,
            process_id=self.process_id,
            overwrites=self.overwrites,
        )


class PublishRequest(_MessageRequest, frozen=True, kw_only=True):
    """A message for the subscribers of a channel."""

    channel: _Channel


_BATCH = Meta(min_length=1, max_length=MAX_BATCH, description="The messages, in order.")


class PublishBatchRequest(_Request, frozen=True, kw_only=True):
    """Several messages."""

    messages: Annotated[tuple[PublishRequest, ...], _BATCH]


class EncodedBatchRequest(_Request, frozen=True, kw_only=True):
    """Several messages that are not decoded."""

    messages: Annotated[tuple[Raw, ...], _BATCH]


class BroadcastRequest(_MessageRequest, frozen=True, kw_only=True):
    """A message for every connection."""


class SendToUserRequest(_MessageRequest, frozen=True, kw_only=True):
    """A message for the connections of a user."""

    user_id: _UserID


class ChannelsRequest(_Request, frozen=True, kw_only=True):
    """A request for a page of the channels that have subscribers."""

    prefix: Annotated[str, Meta(description="The beginning of the names.")] = ""
    after: Annotated[str, Meta(description="The name behind which the page begins.")] = ""
    limit: Annotated[
        int, Meta(ge=1, le=1_000, description="The maximum number of channels in the answer.")
    ] = 100


class HistoryRequest(_Request, frozen=True, kw_only=True):
    """A request for messages of the history of a channel."""

    channel: _Channel
    since: Annotated[
        int,
        Meta(ge=0, le=MAX_OFFSET, description="The offset behind which the messages begin."),
    ] = 0
    limit: Annotated[
        int, Meta(ge=1, le=1_000, description="The maximum number of messages in the answer.")
    ] = 100
    reverse: Annotated[bool, Meta(description="Whether the newest message comes first.")] = False


class ChannelRequest(_Request, frozen=True, kw_only=True):
    """A channel."""

    channel: _Channel


class PresenceRequest(_Request, frozen=True, kw_only=True):
    """A request for the members of a channel."""

    channel: _Channel
    limit: Annotated[
        int, Meta(ge=1, le=1_000, description="The maximum number of members in the answer.")
    ] = 1_000


class ConnectionsOfUserRequest(_Request, frozen=True, kw_only=True):
    """A request for the connections of a user."""

    user_id: _UserID
    limit: Annotated[
        int, Meta(ge=1, le=100, description="The maximum number of connections in the answer.")
    ] = 100


class UserChannelRequest(_Request, frozen=True, kw_only=True):
    """A user and a channel."""

    user_id: _UserID
    channel: _Channel


class DisconnectUserRequest(_Request, frozen=True, kw_only=True):
    """A request to close the connections of a user."""

    user_id: _UserID
    code: _Code = CloseCode.POLICY_VIOLATION.value
    reason: _Reason = ""


class DisconnectRequest(_Request, frozen=True, kw_only=True):
    """A request to close a connection."""

    connection_id: Annotated[int, Meta(description="The id of the connection.")]
    code: _Code = CloseCode.POLICY_VIOLATION.value
    reason: _Reason = ""


class StatsRequest(_Request, frozen=True, kw_only=True):
    """An empty object."""
