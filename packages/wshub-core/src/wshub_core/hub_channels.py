"""The methods of a hub about single channels: the part of `Hub` that reads their state."""

from wshub_core.connections.running_hub import RunningHub
from wshub_core.values.connection import Connection


class HubChannels:
    """The base of `Hub` with the methods about the state of channels.

    A subclass defines `_get_running`.
    """

    _running: RunningHub | None

    def _get_running(self) -> RunningHub:
        """Return the running hub, or raise an error."""
        raise NotImplementedError

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that have subscribers now, sorted."""
        return () if self._running is None else self._running.registry.channels

    def subscribers(self, channel: str) -> tuple[Connection, ...]:
        """Return the current subscribers of a channel, in no particular order."""
        return (
            () if self._running is None else tuple(self._running.registry.subscribers_of(channel))
        )

    def subscriber_count(self, channel: str) -> int:
        """Return the number of subscribers of a channel."""
        return 0 if self._running is None else self._running.registry.subscriber_count(channel)
