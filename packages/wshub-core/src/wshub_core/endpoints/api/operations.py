"""The operations of the HTTP API: names, scopes, and calls of the hub."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import msgspec

from wshub_core.endpoints.api import answers, requests
from wshub_core.endpoints.api.errors import HUB_ERRORS, APIError, explain
from wshub_core.endpoints.api.interface import APIHub
from wshub_core.values.channels import is_for_hubs
from wshub_core.values.errors import HubClosedError, PublishDeniedError
from wshub_core.values.messages import Message, encode_message
from wshub_core.values.presence import Presence, PresenceCount

PUBLISH = "publish"
READ = "read"
MANAGE = "manage"

SCOPES = {
    PUBLISH: "publish messages",
    READ: "read channels, histories, members, connections and statistics",
    MANAGE: "change subscriptions, clear histories and close connections",
}

_MAX_HISTORY_BYTES = 1_048_576
"""Size of the messages in an answer above which the rest is left out."""


class Operation:
    """An operation: ``POST`` of one JSON object, which is answered with another one.

    Attributes:
        name: The name, which is the last part of the path.
        scope: The scope that a key needs.
        summary: A sentence for the OpenAPI document.
        request: The type of the request.
        answer: The type of the answer.
        run: The function that calls the hub. Functions of the scope ``publish`` are plain ones:
            their requests may have an idempotency key. Others may return a coroutine.
        decoder: The decoder of requests.
    """

    def __init__(
        self,
        name: str,
        scope: str,
        summary: str,
        request: type[msgspec.Struct],
        answer: type[msgspec.Struct],
        run: Callable[[APIHub, Any], Any],
    ) -> None:
        self.name = name
        self.scope = scope
        self.summary = summary
        self.request = request
        self.answer = answer
        self.run = run
        self.decoder = msgspec.json.Decoder(request)


def _publish(hub: APIHub, request: requests.PublishRequest) -> answers.DoneAnswer:
    # The rule for clients: only hubs may publish to these channels.
    if is_for_hubs(request.channel):
        raise PublishDeniedError(request.channel)
    hub.publish(request.channel, request.to_message())
    return answers.DoneAnswer()


def _publish_batch(
    hub: APIHub, request: requests.PublishBatchRequest
) -> answers.PublishBatchAnswer:
    errors = []
    for index, each in enumerate(request.messages):
        try:
            _publish(hub, each)
        except HubClosedError:
            raise
        except HUB_ERRORS as error:
            detail = explain(error).detail
            errors.append(
                answers.RefusedMessage(index=index, code=detail.code, message=detail.message)
            )
    published = len(request.messages) - len(errors)
    return answers.PublishBatchAnswer(published=published, errors=tuple(errors))


def _broadcast(hub: APIHub, request: requests.BroadcastRequest) -> answers.DoneAnswer:
    hub.broadcast(request.to_message())
    return answers.DoneAnswer()


def _send_to_user(hub: APIHub, request: requests.SendToUserRequest) -> answers.ConnectionCount:
    return _count(hub.send_to_user(request.user_id, request.to_message()))


def _channels(hub: APIHub, request: requests.ChannelsRequest) -> answers.ChannelsAnswer:
    names = hub.channels
    # The names are sorted, so those with the prefix are neighbors. No name has a character as
    # high as the last one.
    first = bisect_left(names, request.prefix)
    end = bisect_left(names, request.prefix + "\U0010ffff")
    begin = max(first, bisect_right(names, request.after))
    page = names[begin : min(begin + request.limit, end)]
    return answers.ChannelsAnswer(
        channels=tuple(
            answers.ChannelCount(channel=each, subscribers=hub.subscriber_count(each))
            for each in page
        ),
        total=end - first,
        next=page[-1] if page and begin + len(page) < end else None,
    )


async def _history(hub: APIHub, request: requests.HistoryRequest) -> answers.HistoryAnswer:
    page = await hub.history(
        request.channel, since=request.since, limit=request.limit, reverse=request.reverse
    )
    return answers.HistoryAnswer(
        epoch=page.epoch,
        first=page.first,
        offset=page.offset,
        messages=tuple(_take_bounded(page.messages)),
    )


def _take_bounded(messages: tuple[Message, ...]) -> Iterator[Message]:
    """Yield the first messages, at least one, until they have the maximum size together."""
    size = 0
    for message in messages:
        size += len(encode_message(message))
        if size > _MAX_HISTORY_BYTES and message is not messages[0]:
            return
        yield message


async def _clear_history(hub: APIHub, request: requests.ChannelRequest) -> answers.DoneAnswer:
    await hub.clear_history(request.channel)
    return answers.DoneAnswer()


async def _presence(hub: APIHub, request: requests.PresenceRequest) -> Presence:
    return await hub.presence(request.channel, request.limit)


async def _presence_count(hub: APIHub, request: requests.ChannelRequest) -> PresenceCount:
    return await hub.presence_count(request.channel)


def _connections_of_user(
    hub: APIHub, request: requests.ConnectionsOfUserRequest
) -> answers.UserConnections:
    connections = hub.connections_of(request.user_id)
    return answers.UserConnections(
        connections=tuple(
            answers.UserConnection(
                id=each.id,
                remote_address=each.remote_address,
                subscriptions=each.subscriptions,
                dropped_messages=each.dropped_messages,
            )
            for each in connections[: request.limit]
        ),
        total=len(connections),
    )


async def _subscribe_user(
    hub: APIHub, request: requests.UserChannelRequest
) -> answers.ConnectionCount:
    return _count(await hub.subscribe_user(request.user_id, request.channel))


def _unsubscribe_user(hub: APIHub, request: requests.UserChannelRequest) -> answers.ConnectionCount:
    return _count(hub.unsubscribe_user(request.user_id, request.channel))


def _disconnect_user(
    hub: APIHub, request: requests.DisconnectUserRequest
) -> answers.ConnectionCount:
    return _count(hub.disconnect_user(request.user_id, request.code, request.reason))


def _disconnect(hub: APIHub, request: requests.DisconnectRequest) -> answers.DoneAnswer:
    if not hub.disconnect(request.connection_id, request.code, request.reason):
        raise APIError(
            HTTPStatus.NOT_FOUND,
            "connection_not_found",
            f"this hub has no connection with the id {request.connection_id}",
        )
    return answers.DoneAnswer()


def _stats(hub: APIHub, request: requests.StatsRequest) -> msgspec.Struct:
    return answers.StatsAnswer(**asdict(hub.stats()))


def _count(connections: int) -> answers.ConnectionCount:
    return answers.ConnectionCount(connections=connections)


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation(
            "publish",
            PUBLISH,
            "Publish a message to a channel, on all hubs.",
            requests.PublishRequest,
            answers.DoneAnswer,
            _publish,
        ),
        Operation(
            "publish_batch",
            PUBLISH,
            "Publish several messages, each for itself, on all hubs.",
            requests.PublishBatchRequest,
            answers.PublishBatchAnswer,
            _publish_batch,
        ),
        Operation(
            "broadcast",
            PUBLISH,
            "Send a message to every connection, on all hubs.",
            requests.BroadcastRequest,
            answers.DoneAnswer,
            _broadcast,
        ),
        Operation(
            "send_to_user",
            PUBLISH,
            "Send a message to the connections of a user, on all hubs.",
            requests.SendToUserRequest,
            answers.ConnectionCount,
            _send_to_user,
        ),
        Operation(
            "channels",
            READ,
            "List the channels that have subscribers on this hub.",
            requests.ChannelsRequest,
            answers.ChannelsAnswer,
            _channels,
        ),
        Operation(
            "history",
            READ,
            "Read the history of a channel.",
            requests.HistoryRequest,
            answers.HistoryAnswer,
            _history,
        ),
        Operation(
            "clear_history",
            MANAGE,
            "Clear the history of a channel.",
            requests.ChannelRequest,
            answers.DoneAnswer,
            _clear_history,
        ),
        Operation(
            "presence",
            READ,
            "List the members of a channel, on all hubs.",
            requests.PresenceRequest,
            Presence,
            _presence,
        ),
        Operation(
            "presence_count",
            READ,
            "Count the members of a channel, on all hubs.",
            requests.ChannelRequest,
            PresenceCount,
            _presence_count,
        ),
        Operation(
            "connections_of_user",
            READ,
            "List the connections of a user on this hub.",
            requests.ConnectionsOfUserRequest,
            answers.UserConnections,
            _connections_of_user,
        ),
        Operation(
            "subscribe_user",
            MANAGE,
            "Subscribe the connections of a user to a channel, on all hubs.",
            requests.UserChannelRequest,
            answers.ConnectionCount,
            _subscribe_user,
        ),
        Operation(
            "unsubscribe_user",
            MANAGE,
            "End the subscriptions of a user to a channel, on all hubs.",
            requests.UserChannelRequest,
            answers.ConnectionCount,
            _unsubscribe_user,
        ),
        Operation(
            "disconnect_user",
            MANAGE,
            "Close the connections of a user, on all hubs.",
            requests.DisconnectUserRequest,
            answers.ConnectionCount,
            _disconnect_user,
        ),
        Operation(
            "disconnect",
            MANAGE,
            "Close a connection of this hub.",
            requests.DisconnectRequest,
            answers.DoneAnswer,
            _disconnect,
        ),
        Operation(
            "stats",
            READ,
            "Read the statistics of this hub.",
            requests.StatsRequest,
            answers.StatsAnswer,
            _stats,
        ),
    )
}
"""The operations by name."""
