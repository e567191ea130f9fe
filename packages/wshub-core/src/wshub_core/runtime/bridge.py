"""What a hub needs of a bridge, and nothing more."""

from asyncio import Future
from typing import Protocol

from wshub_core.values.bridging import BridgeState


class Bridge(Protocol):
    """Carries messages between this hub and others, such as those of other processes.

    A bridge is given to `Hub.attach`. From then on the hub calls the methods below, on its event
    loop, and the bridge calls `Hub.deliver` with what other hubs publish. It never gives a hub its
    own messages back. `wshub_core.testing.BridgeContract` has the tests that every bridge passes.

    Attributes:
        state: How well it works now.
        overhead_bytes: How many bytes a message grows by on its way. The hub refuses what would
            not fit, before anybody has got it.
    """

    @property
    def state(self) -> BridgeState: ...  # noqa: D102

    @property
    def overhead_bytes(self) -> int: ...  # noqa: D102

    def forward(self, channel: str, payload: bytes) -> None:
        """Take a message for the other hubs, without blocking and without raising.

        The order of calls is the order of arrival, for each channel.

        Args:
            channel: Where it was published; empty for a broadcast.
            payload: The message as clients get it, one JSON object in UTF-8.
        """

    def subscribe(self, channel: str) -> Future[None] | None:
        """Have what other hubs publish to a channel arrive; that may be so already.

        Returns:
            None if it is so; else a future that is done once every later message will arrive, or
            once the bridge is stopped. It may take as long as an outage, and never raises.
        """

    def subscribe_all(self) -> Future[None] | None:
        """Have what other hubs publish arrive from every channel, until the bridge is stopped.

        A message still arrives once, whether its channel has been subscribed to or not. A bridge
        that cannot do it logs a warning and returns None.

        Returns:
            A future as `subscribe` returns it.
        """

    def unsubscribe(self, channel: str) -> None:
        """Have it arrive no more: nobody here has listened for a while."""

    async def drain(self) -> None:
        """Wait until `forward` can take more, if it cannot now; not for an outage to end."""
