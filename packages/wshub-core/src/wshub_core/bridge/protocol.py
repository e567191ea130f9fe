"""The interface of a bridge: the methods that a hub calls."""

from asyncio import Future
from typing import Protocol, runtime_checkable

from wshub_core.bridge.state import BridgeState
from wshub_core.values.measurements import BridgeStats


class Bridge(Protocol):
    """Carries messages between this hub and other hubs, such as those of other processes.

    A bridge attaches itself with ``hub.bridge_port.attach(bridge)``. From then on the hub calls the
    methods below, on its event loop, and the bridge calls `BridgePort.deliver` with the messages of
    other hubs. A bridge never returns a hub's own messages to that hub.
    `wshub_core.testing.BridgeContract` has the tests that every bridge must pass.

    Attributes:
        state: Current state of the bridge.
        overhead_bytes: Number of bytes that the bridge adds to a message. The hub refuses a message
            that would exceed ``max_message_bytes`` with them, before any client receives it.
    """

    @property
    def state(self) -> BridgeState: ...  # noqa: D102

    @property
    def overhead_bytes(self) -> int: ...  # noqa: D102

    def forward(self, channel: str, payload: bytes) -> None:
        """Send a message to the other hubs, without blocking and without raising.

        For each channel, messages arrive in the order of the calls.

        Args:
            channel: The channel; `wshub_core.BROADCAST` for a message to every connection.
            payload: The message as clients receive it, one JSON object in UTF-8.
        """

    def subscribe(self, channel: str) -> Future[None] | None:
        """Start to deliver the messages that other hubs publish to a channel.

        Returns:
            None if the bridge delivers them already. Otherwise a future that is done when every
            later message will arrive, or when the bridge is stopped. During an outage the future
            stays pending. It never has an exception.
        """

    def subscribe_all(self) -> Future[None] | None:
        """Start to deliver the messages of every channel, until the bridge is stopped.

        Each message is still delivered once, even if its channel is subscribed to as well. A bridge
        without this ability logs a warning and returns None.

        Returns:
            A future or None, as `subscribe` returns.
        """

    def unsubscribe(self, channel: str) -> None:
        """Stop delivering the messages of a channel.

        The hub calls this about one second after the last subscriber has left.
        """

    async def drain(self) -> None:
        """Wait until `forward` can take more messages, but not for the end of an outage."""


@runtime_checkable
class MeasuredBridge(Bridge, Protocol):
    """A bridge that reports its totals, which `Hub.measure` and the metrics then contain."""

    def stats(self) -> BridgeStats:
        """Return the totals since the bridge was created, without blocking.

        Collectors of metrics may call this in another thread.
        """
