"""The directory: which channels were published to of late, and the statuses of their processes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from wshub_core.values.messages import JSON, Message, MessageType

LONGEST_STATUS = 64
"""How many characters of a status are kept; the usual ones are one word."""

_HIGHEST_EXIT_CODE = 2**53 - 1
"""The highest exit code that every reader of JSON keeps exact."""


@dataclass(slots=True)
class ChannelActivity:
    """What was published to one channel.

    Attributes:
        message_count: Number of messages.
        status: The last process status; None if there was none.
        exit_code: The exit code of that status; None if it had none.
        status_at: When that status was published, in Unix seconds.
        has_begun: Whether a process has published here and has not exited since.
    """

    message_count: int = 0
    status: str | None = None
    exit_code: int | None = None
    status_at: float = 0.0
    has_begun: bool = False


class Recorded(NamedTuple):
    """What a message has changed in the directory.

    Attributes:
        is_new: Whether the channel was not in the directory.
        has_new_status: Whether the channel has a new process status.
        begins: Whether this is the first message of the channel, or the first since its process
            has exited.
    """

    is_new: bool
    has_new_status: bool
    begins: bool


class ChannelDirectory:
    """The channels that were published to last, with their last process status.

    Args:
        limit: The most channels to remember. Beyond it the channel that was silent longest is
            forgotten.
    """

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        # In the order of their last message, the most recent last.
        self._activities: dict[str, ChannelActivity] = {}

    def __contains__(self, channel: str) -> bool:
        return channel in self._activities

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels remembered, sorted."""
        return tuple(sorted(self._activities))

    def activity(self, channel: str) -> ChannelActivity:
        """Return what was published to a channel; nothing for an unknown one."""
        return self._activities.get(channel) or ChannelActivity()

    def record(self, channel: str, message: Message) -> Recorded:
        """Note that a message was published to a channel."""
        known = self._activities.pop(channel, None)
        activity = known or ChannelActivity()
        self._activities[channel] = activity
        if len(self._activities) > self._limit:
            del self._activities[next(iter(self._activities))]
        activity.message_count += 1
        begins = not activity.has_begun
        activity.has_begun = True
        before = activity.status, activity.exit_code
        if message.type == MessageType.PROCESS_STATUS:
            status = _read_status(message.data)
            if status is not None:
                activity.status, activity.exit_code = status
                activity.status_at = message.timestamp.timestamp() if message.timestamp else 0.0
                activity.has_begun = activity.status != "exited"
        has_new_status = before != (activity.status, activity.exit_code)
        return Recorded(known is None, has_new_status, begins)

    def snapshot(self, size: int) -> Iterator[dict[str, ChannelActivity]]:
        """Yield everything in parts, the most recent channels first.

        Args:
            size: The most channels of one part.
        """
        channels = list(self._activities)
        for end in range(len(channels), 0, -size):
            part = channels[max(0, end - size) : end]
            yield {channel: self._activities[channel] for channel in part}

    def merge(self, others: Mapping[str, ChannelActivity]) -> list[str]:
        """Take in what another directory knows: the higher count, the more recent status.

        Its channels count as older than all that are remembered, and never displace one.

        Args:
            others: Channels with valid names, the most recent last.

        Returns:
            The channels that are new or have a new status.
        """
        unknown = [channel for channel in others if channel not in self._activities]
        room = self._limit - len(self._activities)
        added = {channel: others[channel] for channel in unknown[max(0, len(unknown) - room) :]}
        changed = list(added)
        for channel in others.keys() & self._activities.keys():
            activity, other = self._activities[channel], others[channel]
            activity.message_count = max(activity.message_count, other.message_count)
            if other.status is not None and other.status_at > activity.status_at:
                activity.status, activity.exit_code = other.status, other.exit_code
                activity.status_at = other.status_at
                changed.append(channel)
        self._activities = {**added, **self._activities}
        return changed


def _read_status(data: JSON) -> tuple[str, int | None] | None:
    """Return the status and exit code of a process status; None for data of another shape."""
    # A publisher in this process may give a dataclass, which clients get as an object.
    match msgspec.to_builtins(data):
        case {"status": str(status), "exitCode": int(exit_code)} if (
            not isinstance(exit_code, bool) and abs(exit_code) <= _HIGHEST_EXIT_CODE
        ):
            return status[:LONGEST_STATUS], exit_code
        case {"status": str(status)}:
            return status[:LONGEST_STATUS], None
    return None
