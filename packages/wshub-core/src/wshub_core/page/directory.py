"""The channel directory: the latest channels with messages, and the statuses of their processes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from wshub_core.values.messages import JSON, Message, MessageType

MAX_STATUS_LENGTH = 64
"""Number of characters of a status that are kept; usual statuses are one word."""

_MAX_EXIT_CODE = 2**53 - 1
"""Highest exit code: the largest integer that every JSON parser reads exactly."""


@dataclass(slots=True)
class ChannelActivity:
    """The messages of one channel, in numbers, and its last process status.

    Attributes:
        message_count: Number of messages.
        status: The last process status; None before the first.
        exit_code: The exit code in that status; None without an exit code.
        status_at: Unix time in seconds at which that status was published.
        started_at: Unix time in seconds at which the last run of the process began; None if that is
            not known.
        has_begun: Whether a run is under way: messages were published, and the process has not
            exited since.
    """

    message_count: int = 0
    status: str | None = None
    exit_code: int | None = None
    status_at: float = 0.0
    started_at: float | None = None
    has_begun: bool = False


class Recorded(NamedTuple):
    """The changes that a message makes in the directory.

    Attributes:
        is_new: Whether the channel was not in the directory.
        has_new_status: Whether the channel has a new process status.
        begins: Whether a run begins: the message is the first of the channel, or the first since
            its process has exited.
    """

    is_new: bool
    has_new_status: bool
    begins: bool


class ChannelDirectory:
    """The channels with the latest messages, and their last process status.

    Args:
        limit: Largest number of channels. A new channel then replaces the channel whose last
            message is the oldest.
    """

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        # In the order of their last messages, the most recent last.
        self._activities: dict[str, ChannelActivity] = {}

    def __contains__(self, channel: str) -> bool:
        return channel in self._activities

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels in the directory, sorted."""
        return tuple(sorted(self._activities))

    def activity(self, channel: str) -> ChannelActivity:
        """Return the activity of a channel; an empty activity for an unknown channel."""
        return self._activities.get(channel) or ChannelActivity()

    def record(self, channel: str, message: Message) -> Recorded:
        """Record a message of a channel."""
        # Removed and added again, so that the channel moves to the end of the order.
        known = self._activities.pop(channel, None)
        activity = known or ChannelActivity()
        self._activities[channel] = activity
        if len(self._activities) > self._limit:
            del self._activities[next(iter(self._activities))]
        activity.message_count += 1
        sent_at = message.timestamp.timestamp() if message.timestamp else 0.0
        begins = not activity.has_begun
        activity.has_begun = True
        before = activity.status, activity.exit_code
        if message.type == MessageType.PROCESS_STATUS:
            status = _read_status(message.data)
            if status is not None:
                activity.status, activity.exit_code = status
                activity.status_at = sent_at
                if before[0] != "running" and activity.status == "running":
                    activity.started_at = sent_at
                elif before[0] == "exited":
                    # The beginning of this run was not published, or not received.
                    activity.started_at = None
                activity.has_begun = activity.status != "exited"
        has_new_status = before != (activity.status, activity.exit_code)
        return Recorded(known is None, has_new_status, begins)

    def snapshot(self, size: int) -> Iterator[dict[str, ChannelActivity]]:
        """Yield the whole directory in parts, the part with the most recent channels first.

        Args:
            size: Largest number of channels in one part.
        """
        channels = list(self._activities)
        for end in range(len(channels), 0, -size):
            part = channels[max(0, end - size) : end]
            yield {channel: self._activities[channel] for channel in part}

    def merge(self, others: Mapping[str, ChannelActivity]) -> list[str]:
        """Merge the entries of another directory: the higher count and the more recent status win.

        New channels count as older than all channels here, and never replace one of them.

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
                activity.status_at, activity.started_at = other.status_at, other.started_at
                changed.append(channel)
        self._activities = {**added, **self._activities}
        return changed


def _read_status(data: JSON) -> tuple[str, int | None] | None:
    """Return the status and exit code of a process status; None for data of another shape."""
    # A publisher in this process may pass a dataclass, which clients receive as an object.
    match msgspec.to_builtins(data):
        case {"status": str(status), "exitCode": int(exit_code)} if (
            not isinstance(exit_code, bool) and abs(exit_code) <= _MAX_EXIT_CODE
        ):
            return status[:MAX_STATUS_LENGTH], exit_code
        case {"status": str(status)}:
            return status[:MAX_STATUS_LENGTH], None
    return None
