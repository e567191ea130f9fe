"""The methods of a hub about single channels: the part of `Hub` that reads their state."""

from wshub_core.connections.running_hub import RunningHub
from wshub_core.presence.snapshot import PresenceSnapshot
from wshub_core.values.channel_patterns import ChannelPatterns
from wshub_core.values.channels import validate_channel
from wshub_core.values.connection import Connection
from wshub_core.values.errors import InvalidHistoryRequestError, NoPresenceError
from wshub_core.values.history import MAX_OFFSET, HistoryLimits, HistoryPage
from wshub_core.values.presence import Presence, PresenceCount


class HubChannels:
    """The base of `Hub` with the methods about the state of channels.

    A subclass defines `_get_running`.
    """

    _running: RunningHub | None
    _history_patterns: ChannelPatterns[HistoryLimits]

    def _get_running(self) -> RunningHub:
        """Return the running hub, or raise an error."""
        raise NotImplementedError

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that have subscribers now, sorted."""
        return () if self._running is None else self._running.registry.channels

    def subscribers(self, channel: str) -> tuple[Connection, ...]:
        """Return the current subscribers of a channel, in no particular order."""
        return () if self._running is None else self._running.registry.all_subscribers_of(channel)

    def subscriber_count(self, channel: str) -> int:
        """Return the number of subscribers of a channel."""
        return 0 if self._running is None else self._running.registry.subscriber_count(channel)

    def keep_history(self, pattern: str, limits: HistoryLimits) -> None:
        """Keep the history of more channels, from now on.

        This is for objects that need a history, such as `LivePage`. It has no effect on channels
        for which ``HubConfig.history`` has a pattern, also one with the value None.

        Args:
            pattern: The name of a channel, or the beginning of a name and ``*``.
            limits: The size of the history of each channel.

        Raises:
            InvalidConfigError: The pattern is not allowed.
        """
        self._history_patterns.add(pattern, limits)

    async def history(
        self, channel: str, *, since: int = 0, limit: int = 100, reverse: bool = False
    ) -> HistoryPage:
        """Return messages of the history of a channel.

        The history is a bounded cache: old messages leave it when it exceeds its `HistoryLimits`.
        If the first message has an offset above ``since + 1``, the messages before it have left.

        Args:
            channel: The channel.
            since: Offset behind which the messages are returned.
            limit: Maximum number of messages.
            reverse: Whether the newest message comes first.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidHistoryRequestError: The channel has no history, or a number is out of range.
            HistoryUnavailableError: The history cannot be read now.
        """
        running, limits = self._find_history(channel)
        for name, value, least in (("since", since, 0), ("limit", limit, 1)):
            if not least <= value <= MAX_OFFSET:
                raise InvalidHistoryRequestError(
                    f"{name} must be from {least} to {MAX_OFFSET}, not {value}"
                )
        return await running.histories.form.read(channel, limits, since, limit, reverse)

    async def clear_history(self, channel: str) -> None:
        """Remove all messages of the history of a channel, and tell its subscribers.

        The next message begins a new epoch, with offset 1.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidHistoryRequestError: The channel has no history.
            HistoryUnavailableError: The history cannot be changed now.
        """
        running, limits = self._find_history(channel)
        await running.publishing.clear_history(channel, limits)

    def _find_history(self, channel: str) -> tuple[RunningHub, HistoryLimits]:
        validate_channel(channel)
        running = self._get_running()
        limits = running.histories.limits_of(channel)
        if limits is None:
            raise InvalidHistoryRequestError(
                f"the channel {channel} has no history: HubConfig.history names channels with one"
            )
        return running, limits

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
