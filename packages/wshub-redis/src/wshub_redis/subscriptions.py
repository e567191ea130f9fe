"""The subscriptions of one connection to Redis: wanted, requested and active channels."""

from collections import Counter
from collections.abc import Iterable


class Subscriptions:
    """The commands that bring a connection's subscriptions in line with the wanted channels.

    Commands and confirmations cross on the wire: a channel can be unsubscribed from and subscribed
    to again before the first confirmation arrives. A channel is *active* while its messages arrive.
    It becomes active when Redis confirms the last command about it, and that command subscribes. It
    stops being active when an unsubscribe command is due, or when the connection is lost.
    """

    def __init__(self) -> None:
        self._wanted: set[bytes] = set()
        self._active: set[bytes] = set()
        # Channels about which the last command that was sent is to subscribe.
        self._requested: set[bytes] = set()
        # Number of confirmations that are still to arrive, by channel.
        self._unconfirmed: Counter[bytes] = Counter()
        # Commands that are due: True to subscribe, False to unsubscribe.
        self._due: dict[bytes, bool] = {}

    def is_active(self, channel: bytes) -> bool:
        """Return whether messages of a channel arrive."""
        return channel in self._active

    @property
    def has_due(self) -> bool:
        """True if commands are due."""
        return bool(self._due)

    @property
    def unconfirmed(self) -> int:
        """Number of confirmations that are still to arrive."""
        return self._unconfirmed.total()

    def add(self, channel: bytes) -> bool:
        """Make a channel wanted, and return whether it is active already."""
        self._wanted.add(channel)
        if channel in self._active:
            return True
        if channel not in self._requested:
            self._due[channel] = True
            return False
        # The unsubscribe command that was due has not been sent, so the subscription goes on.
        self._due.pop(channel, None)
        if channel not in self._unconfirmed:
            self._active.add(channel)
        return channel in self._active

    def discard(self, channel: bytes) -> None:
        """Make a channel unwanted."""
        self._wanted.discard(channel)
        self._active.discard(channel)
        if channel in self._requested:
            self._due[channel] = False
        else:
            self._due.pop(channel, None)

    def take_due(self, limit: int) -> tuple[list[bytes], list[bytes]]:
        """Return the channels to subscribe to and to unsubscribe from, as if commands were sent.

        Args:
            limit: Maximum number of channels to return.
        """
        subscribe: list[bytes] = []
        unsubscribe: list[bytes] = []
        while self._due and limit > 0:
            channel = next(iter(self._due))
            limit -= 1
            if self._due.pop(channel):
                self._requested.add(channel)
                self._unconfirmed[channel] += 1
                subscribe.append(channel)
            else:
                # No confirmation is counted: an unsubscribed channel is not waited for.
                self._requested.discard(channel)
                unsubscribe.append(channel)
        return subscribe, unsubscribe

    def request(self, channel: bytes) -> bool:
        """Request one channel out of turn, as if its command were sent.

        Returns:
            Whether the command has to be sent; it does not if the channel is unwanted or requested.
        """
        if channel not in self._wanted or channel in self._requested:
            return False
        self._due.pop(channel, None)
        self._requested.add(channel)
        self._unconfirmed[channel] += 1
        return True

    def abandon(self, channels: Iterable[bytes]) -> list[bytes]:
        """Stop expecting confirmations of channels, and return the unconfirmed among them."""
        unconfirmed = [channel for channel in channels if self._unconfirmed.pop(channel, 0)]
        self._requested.difference_update(unconfirmed)
        return unconfirmed

    def note_ended(self, channel: bytes) -> bool:
        """Record that the server has ended a subscription; return whether it was active.

        A confirmation of our own unsubscribe command looks the same. The channel is not active
        then.
        """
        was_active = channel in self._active
        if was_active:
            self._active.discard(channel)
            self._requested.discard(channel)
        return was_active

    def confirm(self, channel: bytes) -> bool:
        """Record a confirmation, and return whether the channel is active from now on."""
        self._unconfirmed[channel] -= 1
        # Confirmations arrive in the order of the commands: only the last one counts.
        if self._unconfirmed[channel] > 0:
            return False
        del self._unconfirmed[channel]
        if channel not in self._requested or channel not in self._wanted:
            return False
        self._active.add(channel)
        return True

    def reset(self, wanted: Iterable[bytes]) -> None:
        """Begin again on a new connection.

        Args:
            wanted: The channels that are wanted now.
        """
        self._wanted = set(wanted)
        self._active.clear()
        self._requested.clear()
        self._unconfirmed.clear()
        self._due = dict.fromkeys(self._wanted, True)
