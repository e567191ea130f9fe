"""The directory: which channels were published to of late, for those who want to look around."""

from collections.abc import Mapping
from dataclasses import dataclass

from wshub_core.values.messages import Message, MessageType

_LONGEST_STATUS = 64
"""How much of a status is remembered; the usual ones are one word."""

_MOST_SOURCES = 256
"""How many sources one channel is remembered of."""


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

    Several hubs can share what they know: what one `takes <take_changes>`, the others `learn`.

    Args:
        limit: The most channels to remember; beyond it the one that was silent longest goes.
    """

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        # By channel, and there by source; the own has the empty name.
        self._activities: dict[str, dict[str, ChannelActivity]] = {}
        self._changed: set[str] = set()

    def record(self, channel: str, message: Message) -> None:
        """Note that a message was published to a channel, here."""
        activities = self._touch(channel)
        # The last to publish decides about the status, so it stands last.
        activity = activities.pop("", None) or ChannelActivity()
        activities[""] = activity
        activity.messages += 1
        if message.type == MessageType.PROCESS_STATUS and isinstance(message.data, dict):
            exit_code = message.data.get("exitCode")
            activity.status = str(message.data.get("status"))[:_LONGEST_STATUS]
            activity.exit_code = exit_code if isinstance(exit_code, int) else None
        self._changed.add(channel)

    def learn(self, source: str, changes: Mapping[str, ChannelActivity]) -> None:
        """Take in what another source has said about its own channels."""
        for channel, activity in changes.items():
            activities = self._touch(channel)
            activities.pop(source, None)
            activities[source] = activity
            if len(activities) > _MOST_SOURCES:
                # Who has said nothing for longest is gone, most likely.
                del activities[next(iter(activities))]

    def take_changes(self, most: int) -> dict[str, ChannelActivity]:
        """Return what was recorded here and not taken yet.

        Args:
            most: The most channels to return; the others come next time.
        """
        changes: dict[str, ChannelActivity] = {}
        while self._changed and len(changes) < most:
            channel = self._changed.pop()
            own = self._activities.get(channel, {}).get("")
            if own is not None:
                changes[channel] = own
        return changes

    def change_all(self) -> None:
        """Have everything that was recorded here taken again, for somebody who is new."""
        self._changed.update(
            channel for channel, activities in self._activities.items() if "" in activities
        )

    @property
    def has_changes(self) -> bool:
        """Whether there is something to take."""
        return bool(self._changed)

    def activity(self, channel: str) -> ChannelActivity:
        """Return what was published to a channel; nothing, for one that is not remembered."""
        total = ChannelActivity()
        for activity in self._activities.get(channel, {}).values():
            total.messages += activity.messages
            if activity.status is not None:
                total.status, total.exit_code = activity.status, activity.exit_code
        return total

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels remembered, sorted."""
        return tuple(sorted(self._activities))

    def _touch(self, channel: str) -> dict[str, ChannelActivity]:
        activities = self._activities.pop(channel, {})
        # Taken out and put in again, the last is always the most recent.
        self._activities[channel] = activities
        if len(self._activities) > self._limit:
            gone = next(iter(self._activities))
            del self._activities[gone]
            self._changed.discard(gone)
        return activities
