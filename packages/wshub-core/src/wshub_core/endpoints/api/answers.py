"""The JSON objects of answers of the HTTP API."""

from dataclasses import fields
from typing import Annotated

from msgspec import Meta, Struct, defstruct

from wshub_core.values.messages import Message
from wshub_core.values.stats import HubStats


class _Answer(Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class DoneAnswer(_Answer, frozen=True, kw_only=True):
    """An empty object."""


class RefusedMessage(_Answer, frozen=True, kw_only=True):
    """A message of a batch that the hub has not accepted."""

    index: Annotated[int, Meta(description="The index in the batch; the first message has 0.")]
    code: Annotated[str, Meta(description="The error code, for programs.")]
    message: Annotated[str, Meta(description="The error, for people.")]


class PublishBatchAnswer(_Answer, frozen=True, kw_only=True):
    """The result of a batch."""

    published: Annotated[int, Meta(description="The number of messages that were accepted.")]
    errors: Annotated[
        tuple[RefusedMessage, ...], Meta(description="The messages that were not accepted.")
    ]


class ConnectionCount(_Answer, frozen=True, kw_only=True):
    """The number of connections of this hub that an operation has reached."""

    connections: Annotated[int, Meta(description="The number of connections.")]


class ChannelCount(_Answer, frozen=True, kw_only=True):
    """A channel with subscribers."""

    channel: Annotated[str, Meta(description="The name of the channel.")]
    subscribers: Annotated[int, Meta(description="The number of subscribers.")]


class ChannelsAnswer(_Answer, frozen=True, kw_only=True):
    """A page of the channels that have subscribers on this hub."""

    channels: Annotated[tuple[ChannelCount, ...], Meta(description="The channels, by name.")]
    total: Annotated[int, Meta(description="The number of channels with the prefix.")]
    next: Annotated[
        str | None, Meta(description="The value of `after` for the next page; null at the end.")
    ]


class HistoryAnswer(_Answer, frozen=True, kw_only=True):
    """Messages of the history of a channel."""

    epoch: Annotated[str, Meta(description="The epoch of the history.")]
    first: Annotated[int, Meta(description="The offset of the oldest message that is kept.")]
    offset: Annotated[int, Meta(description="The offset of the newest message.")]
    messages: Annotated[tuple[Message, ...], Meta(description="The messages.")]


class UserConnection(_Answer, frozen=True, kw_only=True):
    """A connection."""

    id: Annotated[int, Meta(description="The id of the connection on this hub.")]
    remote_address: Annotated[str, Meta(description="The address of the client.")]
    subscriptions: Annotated[tuple[str, ...], Meta(description="The channels, by name.")]
    dropped_messages: Annotated[
        int, Meta(description="The number of messages that were dropped from a full outbox.")
    ]


class UserConnections(_Answer, frozen=True, kw_only=True):
    """The connections of a user on this hub."""

    connections: Annotated[
        tuple[UserConnection, ...], Meta(description="The connections; the oldest comes first.")
    ]
    total: Annotated[int, Meta(description="The number of connections.")]


# From the dataclass, so that the API has every number that the hub has.
StatsAnswer = defstruct(
    "StatsAnswer",
    [(field.name, int) for field in fields(HubStats)],
    frozen=True,
    rename="camel",
    namespace={"__doc__": "The numbers of this hub; see HubStats."},
)


class ErrorDetail(_Answer, frozen=True, kw_only=True, omit_defaults=True):
    """An error."""

    code: Annotated[str, Meta(description="The error code, for programs.")]
    message: Annotated[str, Meta(description="The error, for people.")]
    field: Annotated[
        str, Meta(description="The path of the wrong field in the request; $ is the body.")
    ] = ""


class ErrorAnswer(_Answer, frozen=True, kw_only=True):
    """The answer to a request that was refused."""

    error: ErrorDetail
