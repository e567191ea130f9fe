"""Traces: the frames of chosen connections, in both directions, for a listener.

A hub without a trace pays nothing for them: a trace puts itself between a connection and its
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

TraceListener: TypeAlias = Callable[[Connection, Direction, bytes], object]
"""A function that gets each frame: its connection, its direction and its payload."""


class Trace:
    """A choice of connections, and the listener for their frames.

    Args:
        matches: Returns whether a connection is traced.
        listener: Gets the frames. It must not raise.
    """

    def __init__(self, matches: Callable[[Connection], bool], listener: TraceListener) -> None:
        self.matches = matches
        self.listener = listener


class Tracing:
    """The traces of one hub."""

    def __init__(self) -> None:
        self._traces: list[Trace] = []

    @property
    def is_active(self) -> bool:
        """True while there is a trace."""
        return bool(self._traces)

    def start(self, trace: Trace, connections: Iterable[ServerConnection]) -> None:
        """Trace the connections that exist, and those that `note_connected` is called with."""
        self._traces.append(trace)
        for connection in connections:
            self.note_connected(connection)

    def stop(self, trace: Trace, connections: Iterable[ServerConnection]) -> None:
        """End a trace."""
        self._traces.remove(trace)
        for connection in connections:
            transport = connection.transport
            if isinstance(transport, _TracedTransport) and not self._traces_of(connection):
                connection.replace_transport(transport.transport)

    def note_connected(self, connection: ServerConnection) -> None:
        """Trace a connection if a trace matches it."""
        transport = connection.transport
        if (
            self._traces_of(connection)
            and transport is not None
            and not isinstance(transport, _TracedTransport)
        ):
            connection.replace_transport(_TracedTransport(transport, connection, self.show))

    def show(self, connection: Connection, direction: Direction, payload: bytes) -> None:
        """Show a frame to the traces of its connection."""
        for trace in self._traces_of(connection):
            trace.listener(connection, direction, payload)

    def _traces_of(self, connection: Connection) -> list[Trace]:
        return [trace for trace in self._traces if trace.matches(connection)]


class _TracedTransport(Transport):
    """A transport that shows the messages before it writes them."""

    def __init__(
        self, transport: Transport, connection: ServerConnection, show: TraceListener
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
