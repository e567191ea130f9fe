"""The public interface of a connection."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from wshub_core.values.closing import CloseCode
from wshub_core.values.messages import JSON, Message


class Connection(ABC):
    """An accepted WebSocket.

    The hub creates connections. It passes them to callbacks, and lists them in `Hub.connections`.
    Use them on the hub's event loop.

    Attributes:
        id: A number that is unique among all connections of the hub, including ended ones.
        remote_address: ``host:port`` of the client, as in its `Request`; empty for a unix socket.
        user_id: The user id from the authenticator; empty without an authenticator.
        claims: The claims from the authenticator, read-only; None if there are none.
    """

    __slots__ = ("claims", "id", "remote_address", "user_id")

    def __init__(
        self,
        connection_id: int,
        remote_address: str,
        user_id: str,
        claims: Mapping[str, JSON] | None,
    ) -> None:
        self.id = connection_id
        self.remote_address = remote_address
        self.user_id = user_id
        self.claims = claims

    def __repr__(self) -> str:
        user = f" of {self.user_id!r}" if self.user_id else ""
        return f"<Connection {self.id}{user} from {self.remote_address or 'a local socket'}>"

    @property
    @abstractmethod
    def subscriptions(self) -> tuple[str, ...]:
        """The channels to which this connection is subscribed, sorted; empty after its end."""

    @property
    @abstractmethod
    def dropped_messages(self) -> int:
        """Number of messages for this connection that were dropped because its outbox was full."""

    @property
    @abstractmethod
    def waiting_bytes(self) -> int:
        """Number of bytes for this connection that the network has not taken; 0 after its end."""

    @abstractmethod
    def send(self, message: Message) -> bool:
        """Queue a message for this connection only, after all messages that are already queued.

        Args:
            message: The message. The hub sets its timestamp.

        Returns:
            True if the message was queued; False if the connection has ended.

        Raises:
            InvalidProcessIDError: The message's ``process_id`` is invalid.
            MessageEncodeError: The message cannot be encoded as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_message_bytes``.
            TypeError: The message is not a `Message`.
        """

    @abstractmethod
    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Send the queued messages, close the connection, and wait until the socket is closed.

        From this call on, the connection receives no new messages and its frames are ignored.
        If the method is called again, the first code and reason count. The wait is bounded by the
        hub's ``close_timeout``. A call from a callback of the same connection does not wait.

        Args:
            code: A close code that an application may send: 1000, or 3000 to 4999.
            reason: A text for the client, at most 123 bytes of UTF-8.

        Raises:
            InvalidCloseError: The code or the reason must not be sent.
        """
