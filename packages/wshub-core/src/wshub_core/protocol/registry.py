"""The registry: the connections, and their subscriptions to channels."""

from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from wshub_core.values.errors import SubscriptionLimitError

C = TypeVar("C")


class Registry(Generic[C]):
    """Two indices: the channels of each connection, and the subscribers of each channel.

    Both indices always agree. A channel without subscribers is not in the registry. Returned
    collections are snapshots that never change. The sets of connections and subscribers are kept,
    and the same set is returned again until it changes.

    A paused subscription counts as all others, but `subscribers_of` leaves it out: the connection
    first gets the history of the channel.

    Args:
        max_subscriptions: Most channels that one connection can subscribe to.
        on_empty: Called with each channel that has lost its last subscriber.
        on_end: Called with the connection and the channel of each subscription that has ended.
    """

    def __init__(
        self,
        max_subscriptions: int,
        on_empty: Callable[[str], object],
        on_end: Callable[[C, str], object] | None = None,
    ) -> None:
        self._max_subscriptions = max_subscriptions
        self._on_empty = on_empty
        self._on_end = on_end
        self._channels_of: dict[C, set[str]] = {}
        self._subscribers_of: dict[str, set[C]] = {}
        # A fan-out needs a collection that does not change meanwhile. Snapshots are dropped at each
        # change and not copied for each publish, so repeated publishes to the same subscribers
        # need no copies.
        self._subscriber_snapshots: dict[str, frozenset[C]] = {}
        self._connection_snapshot: frozenset[C] | None = None
        self._paused: dict[str, set[C]] = {}
        self._subscription_count = 0

    def __contains__(self, connection: C) -> bool:
        return connection in self._channels_of

    def __len__(self) -> int:
        return len(self._channels_of)

    @property
    def connections(self) -> frozenset[C]:
        """All connections."""
        if self._connection_snapshot is None:
            self._connection_snapshot = frozenset(self._channels_of)
        return self._connection_snapshot

    def copy_connections(self) -> tuple[C, ...]:
        """Return all connections; safe from any thread, because it keeps no snapshot."""
        return tuple(self._channels_of)

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels that have subscribers, sorted."""
        return tuple(sorted(self._subscribers_of))

    @property
    def channel_count(self) -> int:
        """Number of channels that have subscribers."""
        return len(self._subscribers_of)

    @property
    def subscription_count(self) -> int:
        """Number of subscriptions; a connection counts once for each of its channels."""
        return self._subscription_count

    def add(self, connection: C) -> None:
        """Add a connection, which must not be in the registry."""
        self._channels_of[connection] = set()
        self._connection_snapshot = None

    def remove(self, connection: C) -> bool:
        """Remove a connection with all its subscriptions.

        Returns:
            False if the connection was not in the registry.
        """
        channels = self._channels_of.pop(connection, None)
        if channels is None:
            return False
        for channel in channels:
            self._drop_subscriber(connection, channel)
        self._connection_snapshot = None
        return True

    def subscribe(self, connection: C, channel: str) -> bool:
        """Subscribe a connection to a channel.

        Returns:
            False if the connection is subscribed already. This changes nothing and is allowed at
            the limit, too.

        Raises:
            KeyError: The connection is not in the registry.
            SubscriptionLimitError: The subscription would exceed the limit; nothing has changed.
        """
        channels = self._channels_of[connection]
        if channel in channels:
            return False
        if len(channels) >= self._max_subscriptions:
            raise SubscriptionLimitError(self._max_subscriptions)
        channels.add(channel)
        self._subscribers_of.setdefault(channel, set()).add(connection)
        self._subscriber_snapshots.pop(channel, None)
        self._subscription_count += 1
        return True

    def unsubscribe(self, connection: C, channel: str) -> bool:
        """End a subscription; return False if there was none."""
        channels = self._channels_of.get(connection)
        if channels is None or channel not in channels:
            return False
        channels.remove(channel)
        self._drop_subscriber(connection, channel)
        return True

    def is_subscribed(self, connection: C, channel: str) -> bool:
        """Return whether a connection is subscribed to a channel."""
        return channel in self._channels_of.get(connection, ())

    def pause(self, connection: C, channel: str) -> None:
        """Leave a subscription out of `subscribers_of`, until `resume`."""
        if channel in self._channels_of.get(connection, ()):
            self._paused.setdefault(channel, set()).add(connection)
            self._subscriber_snapshots.pop(channel, None)

    def resume(self, connection: C, channel: str) -> None:
        """End the pause of a subscription, if it is paused."""
        paused = self._paused.get(channel)
        if paused is not None and connection in paused:
            paused.remove(connection)
            if not paused:
                del self._paused[channel]
            self._subscriber_snapshots.pop(channel, None)

    def is_paused(self, connection: C, channel: str) -> bool:
        """Return whether a connection has a paused subscription to a channel."""
        return connection in self._paused.get(channel, ())

    def channels_of(self, connection: C) -> tuple[str, ...]:
        """Return the channels of a connection, sorted; empty for an unknown connection."""
        return tuple(sorted(self._channels_of.get(connection, ())))

    def subscribers_of(self, channel: str) -> Collection[C]:
        """Return the connections that receive the messages of a channel now."""
        snapshot = self._subscriber_snapshots.get(channel)
        if snapshot is None:
            subscribers = self._subscribers_of.get(channel)
            if subscribers is None:
                return ()
            snapshot = frozenset(subscribers)
            if channel in self._paused:
                snapshot -= self._paused[channel]
            self._subscriber_snapshots[channel] = snapshot
        return snapshot

    def all_subscribers_of(self, channel: str) -> tuple[C, ...]:
        """Return the subscribers of a channel, with those that are paused."""
        return tuple(self._subscribers_of.get(channel, ()))

    def subscriber_count(self, channel: str) -> int:
        """Return the number of subscribers of a channel, with those that are paused."""
        return len(self._subscribers_of.get(channel, ()))

    def _drop_subscriber(self, connection: C, channel: str) -> None:
        subscribers = self._subscribers_of[channel]
        subscribers.remove(connection)
        if not subscribers:
            del self._subscribers_of[channel]
            self._on_empty(channel)
        self._subscriber_snapshots.pop(channel, None)
        if self._paused:
            self.resume(connection, channel)
        self._subscription_count -= 1
        if self._on_end is not None:
            self._on_end(connection, channel)
