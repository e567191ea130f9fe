"""The delivery job: messages that wait for their fan-out to the same connections."""

from collections.abc import Collection
from time import perf_counter

from wshub_core.connections.connection import ServerConnection
from wshub_core.protocol.prepared import PreparedMessage


class DeliveryJob:
    """The fan-out of messages to the same targets.

    Attributes:
        position: Number of the first message; each further message has the next number.
        messages: The messages.
        size: Size of the messages in bytes.
        targets: The connections to deliver them to.
        published_at: Time of the first message by `time.perf_counter`, if times are measured.
    """

    __slots__ = ("messages", "position", "published_at", "size", "targets")

    def __init__(
        self,
        position: int,
        message: PreparedMessage,
        targets: Collection[ServerConnection],
        is_timed: bool,
    ) -> None:
        self.position = position
        self.messages = [message]
        self.size = message.size
        self.targets = targets
        # Not the clock of the event loop: that of uvloop counts milliseconds.
        self.published_at = perf_counter() if is_timed else None
