"""The methods of a hub about single channels: the part of `Hub` that reads their state."""

from wshub_core.connections.running_hub import RunningHub
from wshub_core.presence.snapshot import PresenceSnapshot
from wshub_core.values.channels import validate_channel
from wshub_core.values.connection import Connection
from wshub_core.values.errors import NoPresenceError
from wshub_core.values.presence import Presence, PresenceCount


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

    # Presence.

    async def presence(self, channel: str, limit: int = 1_000) -> Presence:
        """Return who is subscribed to a channel, on all hubs.

        The members on this hub are those of this moment. Members on other hubs come and go after
        about 0.2 seconds; those of a hub that was killed go after 60 seconds at most.

        Args:
            channel: A channel with presence, see ``HubConfig.presence``.
            limit: Maximum number of members in the result.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The channel is a process's, and the id is not allowed.
            NoPresenceError: The channel has no presence.
            PresenceUnavailableError: The members on other hubs are unknown now, such as in an
                outage of Redis.
        """
        return (await self._read_presence(channel, max(limit, 0))).presence

    async def presence_count(self, channel: str) -> PresenceCount:
        """Return the number of connections and users in a channel; see `presence`.

        The call costs little, even if the channel has many members. It raises the errors of
        `presence`.
        """
        return (await self._read_presence(channel, 0)).count

    async def _read_presence(self, channel: str, limit: int) -> PresenceSnapshot:
        running = self._get_running()
        validate_channel(channel)
        if running.presence is None:
            raise NoPresenceError(channel)
        return await running.presence.read(channel, limit)
