"""One accepted WebSocket, as the application sees it."""

from abc import ABC, abstractmethod

from wshub_core.values.closing import CloseCode


class Connection(ABC):
    """One accepted WebSocket.

    The hub creates connections; an application meets them in callbacks and in `Hub.connections`.
    Use them on the hub's event loop.

    Attributes:
        id: A number that no other connection of this hub has or had.
        remote_address: ``host:port`` of the peer, or the path of a unix socket.
    """

    __slots__ = ("id", "remote_address")

    def __init__(self, connection_id: int, remote_address: str) -> None:
        self.id = connection_id
        self.remote_address = remote_address

    def __repr__(self) -> str:
        return f"<Connection {self.id} from {self.remote_address}>"

    @property
    @abstractmethod
    def subscriptions(self) -> tuple[str, ...]:
        """The channels this connection is subscribed to, sorted; empty once it has ended."""

    @abstractmethod
    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close the connection, after what was queued for it, and wait until it is gone.

        From this call on it receives nothing new and its frames are ignored. Closing again is
        harmless, and the first code counts. The wait is bounded by the hub's ``close_timeout``.

        Args:
            code: A close code that an application may send: 1000, or 3000 to 4999.
            reason: A text for the client, at most 123 bytes of UTF-8.

        Raises:
            InvalidCloseError: The code or the reason must not be sent.
        """
