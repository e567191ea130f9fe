"""The snapshot of a hub for the admin view: numbers, channels and connections."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import asdict
from heapq import nlargest
from time import time
from typing import Any, TypeVar

from wshub_core.hub import Hub
from wshub_core.values.connection import Connection
from wshub_core.values.encoding import replace_surrogates

T = TypeVar("T")

_ROWS = 100
"""Number of connections and of channels in a snapshot."""

_PER_TURN = 500
"""Number of connections or channels that are looked at in one turn of the event loop."""


async def take_snapshot(hub: Hub, search: str) -> dict[str, Any]:
    """Return the state of a hub as JSON.

    Args:
        hub: The hub.
        search: A text that the channels contain, and the user or the address of the connections;
            empty for all. A number also finds the connection with this id.
    """
    connections: list[Connection] = []
    async for some in _in_turns(hub.connection_set):
        found = [each for each in some if _is_found(each, search)]
        # Slow consumers first, then the latest connections.
        connections = nlargest(_ROWS, [*connections, *found], key=_slowness)
    channels: list[tuple[int, str]] = []
    async for names in _in_turns(hub.channels):
        counts = [(hub.subscriber_count(name), name) for name in names if search in name]
        channels = nlargest(_ROWS, [*channels, *counts])
    return {
        "at": time(),
        "stats": asdict(hub.stats()),
        "bridge": hub.bridge_state,
        "connections": [_describe(each) for each in connections],
        "channels": [{"name": name, "subscribers": count} for count, name in channels],
    }


async def _in_turns(items: Collection[T]) -> AsyncIterator[tuple[T, ...]]:
    all_items = tuple(items)
    for start in range(0, len(all_items), _PER_TURN):
        yield all_items[start : start + _PER_TURN]
        await asyncio.sleep(0)


def _is_found(connection: Connection, search: str) -> bool:
    return (
        search in connection.user_id
        or search in connection.remote_address
        or search == str(connection.id)
    )


def _slowness(connection: Connection) -> tuple[int, int, int]:
    return connection.waiting_bytes, connection.dropped_messages, connection.id


def _describe(connection: Connection) -> dict[str, Any]:
    return {
        "id": connection.id,
        "userId": replace_surrogates(connection.user_id),
        "address": connection.remote_address,
        "channels": len(connection.subscriptions),
        "waitingBytes": connection.waiting_bytes,
        "droppedMessages": connection.dropped_messages,
    }
