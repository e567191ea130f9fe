"""The delivery job: messages that wait for their fan-out to the same connections."""

from collections.abc import Collection

from wshub_core.connections.connection import ServerConnection
from wshub_core.protocol.prepared import PreparedMessage


class DeliveryJob:
    """The fan-out of messages to the same targets.

    Attributes:
        position: Number of the first message; each further message has the next number.
        messages: The messages.
        size: Size of the messages in bytes.
        targets: The connections to deliver them to.
    """

    __slots__ = ("messages", "position", "size", "targets")

    def __init__(
        self, position: int, message: PreparedMessage, targets: Collection[ServerConnection]
    ) -> None:
        self.position = position
        self.messages = [message]
        self.size = message.size
        self.targets = targets
