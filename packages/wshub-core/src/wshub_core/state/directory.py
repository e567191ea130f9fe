"""The directory: which channels were published to of late, for those who want to look around."""

from dataclasses import dataclass

from wshub_core.values.messages import Message, MessageType


@dataclass(slots=True)
class ChannelActivity:
    """What was published to one channel.

    Attributes:
        messages: How many messages.
        status: The last process status; None if there was none.
        exit_code: The exit code of that status.
    """

    messages: int = 0
    status: str | None = None
    exit_code: int | None = None


class ChannelDirectory:
    """The channels that were published to last, with their last process status.

    Args:
        limit: The most channels to remember; beyond it the one that was silent longest goes.
    """

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        self._activities: dict[str, ChannelActivity] = {}

    def record(self, channel: str, message: Message) -> None:
        """Note that a message was published to a channel."""
        activity = self._activities.pop(channel, None) or ChannelActivity()
        activity.messages += 1
        if message.type == MessageType.PROCESS_STATUS and isinstance(message.data, dict):
            activity.status = str(message.data.get("status"))
            activity.exit_code = message.data.get("exitCode")
        # Taken out and put in again, the last is always the most recent.
        self._activities[channel] = activity
        if len(self._activities) > self._limit:
            del self._activities[next(iter(self._activities))]

    def activity(self, channel: str) -> ChannelActivity:
        """Return what was published to a channel; nothing, for one that is not remembered."""
        return self._activities.get(channel) or ChannelActivity()

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels remembered, sorted."""
        return tuple(sorted(self._activities))
