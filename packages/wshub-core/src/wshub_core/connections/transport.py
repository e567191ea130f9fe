"""The interface of a transport, which carries the bytes of one connection."""

from collections.abc import Sequence
from typing import Protocol

from wshub_core.protocol.prepared import PreparedMessage


class Transport(Protocol):
    """Carries the messages of one WebSocket. Methods do not block; a lost peer raises no error."""

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        """Write messages in order, with one write.

        Returns:
            Number of bytes that the transport still holds; 0 while the peer keeps up.
        """

    def unsent_bytes(self) -> int:
        """Return the number of bytes that the transport still holds."""

    def ping(self) -> None:
        """Send a WebSocket ping; any byte of the peer counts as the answer."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake, behind all sent messages; repeated calls do nothing.

        If the peer does not answer in time, the transport ends the connection itself.
        """

    def abort(self) -> None:
        """End the connection at once; the bytes that the transport holds are lost."""

    def pause_reading(self) -> None:
        """Stop reading messages of the peer, until `resume_reading`."""

    def resume_reading(self) -> None:
        """Read messages of the peer again."""
