"""Watches: the frames of chosen connections, in both directions, for a listener.

A hub without a watch pays nothing for them: a watch puts itself between a connection and its
transport, and between the connections and the commands of the hub.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.transport import Transport
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.values.connection import Connection

Direction: TypeAlias = Literal["in", "out"]
"""The direction of a frame, seen from the hub."""

FrameListener: TypeAlias = Callable[[Connection, Direction, bytes], object]
"""A function that gets each frame: its connection, its direction and its payload."""


class Watch:
    """A choice of connections, and the listener for their frames.

    Args:
        matches: Returns whether a connection is watched. It must not raise.
        listener: Gets the frames. It must not raise.
    """

    def __init__(self, matches: Callable[[Connection], bool], listener: FrameListener) -> None:
        self.matches = matches
        self.listener = listener


class Watches:
    """The watches of one hub."""

    def __init__(self) -> None:
        self._watches: list[Watch] = []

    @property
    def is_active(self) -> bool:
        """True while there is a watch."""
        return bool(self._watches)

    def start(self, watch: Watch, connections: Iterable[ServerConnection]) -> None:
        """Watch the connections that exist, and those that `note_connected` is called with."""
        self._watches.append(watch)
        for connection in connections:
            self.note_connected(connection)

    def stop(self, watch: Watch, connections: Iterable[ServerConnection]) -> None:
        """End a watch."""
        self._watches.remove(watch)
        for connection in connections:
            transport = connection.transport
            if isinstance(transport, _WatchedTransport) and not self._watches_of(connection):
                connection.replace_transport(transport.transport)

    def note_connected(self, connection: ServerConnection) -> None:
        """Watch a connection if a watch matches it."""
        transport = connection.transport
        if (
            self._watches_of(connection)
            and transport is not None
            and not isinstance(transport, _WatchedTransport)
        ):
            connection.replace_transport(_WatchedTransport(transport, connection, self.show))

    def show(self, connection: Connection, direction: Direction, payload: bytes) -> None:
        """Show a frame to the watches of its connection."""
        for watch in self._watches_of(connection):
            watch.listener(connection, direction, payload)

    def _watches_of(self, connection: Connection) -> list[Watch]:
        return [watch for watch in self._watches if watch.matches(connection)]


class _WatchedTransport(Transport):
    """A transport that shows the messages before it writes them."""

    def __init__(
        self, transport: Transport, connection: ServerConnection, show: FrameListener
    ) -> None:
        self.transport = transport
        self._connection = connection
        self._show = show

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        for message in messages:
            for payload in message.payloads:
                self._show(self._connection, "out", payload)
        return self.transport.send(messages)

    def unsent_bytes(self) -> int:
        return self.transport.unsent_bytes()

    def ping(self) -> None:
        self.transport.ping()

    def close(self, code: int, reason: str) -> None:
        self.transport.close(code, reason)

    def abort(self) -> None:
        self.transport.abort()

    def pause_reading(self) -> None:
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.transport.resume_reading()
