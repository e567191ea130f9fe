"""What a connection needs of whatever carries its bytes."""

from collections.abc import Sequence
from typing import Protocol

from wshub_core.protocol.prepared import PreparedMessage


class Transport(Protocol):
    """Carries one WebSocket's messages. No method blocks, and none raises for a lost peer."""

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        """Write messages in order, in one go.

        Returns:
            How many bytes the transport still holds, which is 0 while the peer keeps up.
        """

    def unsent_bytes(self) -> int:
        """Return how many bytes the transport still holds."""

    def ping(self) -> None:
        """Send a WebSocket ping; any sign of life is an answer."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake, behind all that was sent; repeating it does nothing.

        The transport ends the connection itself when the peer does not answer in time.
        """

    def abort(self) -> None:
        """End the connection at once; what the transport holds is lost."""

    def pause_reading(self) -> None:
        """Stop taking messages from the peer, until `resume_reading`."""

    def resume_reading(self) -> None:
        """Take messages from the peer again."""
