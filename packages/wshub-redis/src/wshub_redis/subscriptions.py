"""The subscriptions of one connection to Redis: what is wanted, asked for, and confirmed."""

from collections import Counter
from collections.abc import Iterable


class Subscriptions:
    """Turns what is wanted into commands, and their confirmations into what is carried.

    A channel is carried from the confirmation of the last command about it, if that was to
    subscribe, until the command to unsubscribe is asked for or the connection is lost.
    """

    def __init__(self) -> None:
        self._wanted: set[bytes] = set()
        self._carried: set[bytes] = set()
        # The last command that was sent about these was to subscribe.
        self._asked: set[bytes] = set()
        self._unanswered: Counter[bytes] = Counter()
        self._changes: dict[bytes, bool] = {}

    def is_carried(self, channel: bytes) -> bool:
        """Tell whether what is published to a channel arrives."""
        return channel in self._carried

    @property
    def has_changes(self) -> bool:
        """Whether there are commands to send."""
        return bool(self._changes)

    @property
    def unanswered(self) -> int:
        """How many confirmations are to come."""
        return self._unanswered.total()

    def add(self, channel: bytes) -> bool:
        """Want a channel; return whether it is carried already."""
        self._wanted.add(channel)
        if channel in self._carried:
            return True
        if channel not in self._asked:
            self._changes[channel] = True
            return False
        # It was about to be let go.
        self._changes.pop(channel, None)
        if channel not in self._unanswered:
            self._carried.add(channel)
        return channel in self._carried

    def discard(self, channel: bytes) -> None:
        """Want a channel no more."""
        self._wanted.discard(channel)
        self._carried.discard(channel)
        if channel in self._asked:
            self._changes[channel] = False
        else:
            self._changes.pop(channel, None)

    def take_changes(self, most: int) -> tuple[list[bytes], list[bytes]]:
        """Return what to subscribe to and what to unsubscribe from, with a command each.

        Args:
            most: The most channels to return.
        """
        subscribe: list[bytes] = []
        unsubscribe: list[bytes] = []
        while self._changes and most > 0:
            channel = next(iter(self._changes))
            most -= 1
            if self._changes.pop(channel):
                self._asked.add(channel)
                self._unanswered[channel] += 1
                subscribe.append(channel)
            else:
                self._asked.discard(channel)
                unsubscribe.append(channel)
        return subscribe, unsubscribe

    def ask(self, channel: bytes) -> bool:
        """Return whether there is to be a command to subscribe to a channel; there is then."""
        if channel not in self._wanted or channel in self._asked:
            return False
        self._changes.pop(channel, None)
        self._asked.add(channel)
        self._unanswered[channel] += 1
        return True

    def give_up(self, channels: Iterable[bytes]) -> list[bytes]:
        """Expect no confirmation of these any more; return those that were not confirmed yet."""
        left = [channel for channel in channels if self._unanswered.pop(channel, 0)]
        self._asked.difference_update(left)
        return left

    def lose(self, channel: bytes) -> bool:
        """Note that the server has ended a subscription; return whether it was carried."""
        is_lost = channel in self._carried
        if is_lost:
            self._carried.discard(channel)
            self._asked.discard(channel)
        return is_lost

    def confirm(self, channel: bytes) -> bool:
        """Note a confirmation; return whether the channel is carried from now on."""
        self._unanswered[channel] -= 1
        if self._unanswered[channel] > 0:
            return False
        del self._unanswered[channel]
        if channel not in self._asked or channel not in self._wanted:
            return False
        self._carried.add(channel)
        return True

    def reset(self, wanted: Iterable[bytes]) -> None:
        """Start anew on another connection, with what is wanted now."""
        self._wanted = set(wanted)
        self._carried.clear()
        self._asked.clear()
        self._unanswered.clear()
        self._changes = dict.fromkeys(self._wanted, True)
