"""The interface of a presence that several hubs share, which a bridge provides."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from wshub_core.values.presence import PresenceSettings


@dataclass(slots=True, eq=False)
class StoredMember:
    """A member of a channel in the form for a store.

    Attributes:
        connection_id: The id of the connection, unique among all hubs.
        user_id: The user id; empty for none.
        payload: The member as clients receive it, one JSON object in one line.
        is_announced: Whether a store has confirmed the member before, so its user was announced.
    """

    connection_id: str
    user_id: str
    payload: bytes
    is_announced: bool = False

    @property
    def user_key(self) -> str:
        """The key of the user, or of the connection if it has no user."""
        return f"u{self.user_id}" if self.user_id else f"c{self.connection_id}"


@dataclass(frozen=True, slots=True)
class PresenceUpdate:
    """The changes among the members of one channel on one hub, or a sign of life without changes.

    Attributes:
        channel: The channel.
        settings: The settings of the channel's presence.
        base: The version of the last update of this channel that the store has confirmed to this
            hub; 0 for none. The store applies a difference only to this version.
        version: The version of this update, above those of all earlier updates of this hub.
        left: The members that have left. The store may not know some of them.
        entered: The members that have entered. The store may know some of them already.
        kept: None for a difference. In a complete update, the ids of all members on this hub, some
            of which may enter with later updates only; the store removes the others of this hub.
    """

    channel: str
    settings: PresenceSettings
    base: int
    version: int
    left: Sequence[StoredMember] = ()
    entered: Sequence[StoredMember] = ()
    kept: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class PresenceOutcome:
    """The result of an update.

    Attributes:
        joined: A member of each user who has come, for this hub to announce; see
            `PresenceSettings`. A user is not reported again for a member with ``is_announced``,
            unless the store has reported that the user has gone.
        left: The last member of each user who has gone, for this hub to announce.
        next_leave: Seconds until an update of the channel will return users in ``left``; None if no
            user is about to go. A store may give a time that is too early.
        needs_all: Whether the store has not applied the update, because it has another version of
            the members of this hub. The hub sends a complete update then.
    """

    joined: Sequence[bytes] = ()
    left: Sequence[bytes] = ()
    next_leave: float | None = None
    needs_all: bool = False


@dataclass(frozen=True, slots=True)
class StoredPresence:
    """The members of a channel on all hubs.

    Attributes:
        connections: Number of connections.
        users: Number of different users; connections without a user count one by one.
        payloads: The members, at most as many as were asked for, each one JSON object.
    """

    connections: int
    users: int
    payloads: Sequence[bytes]


class PresenceStore(Protocol):
    """Keeps the members of channels for all hubs.

    A bridge passes its store to `BridgePort.attach`. The store forgets the members of a hub that
    has sent no update of a channel for some time. It decides which users have come and gone, and
    tells each of them to one hub only, which announces them.

    The methods are called on the hub's event loop. A store that cannot be reached raises at once.

    Attributes:
        refresh_seconds: Longest time between two updates of a channel with members on this hub;
            infinity if the store never forgets members.
    """

    @property
    def refresh_seconds(self) -> float: ...  # noqa: D102

    async def update(
        self, hub_id: str, updates: Sequence[PresenceUpdate]
    ) -> Sequence[PresenceOutcome]:
        """Apply updates of different channels.

        Args:
            hub_id: The id of the hub.
            updates: The updates.

        Returns:
            The results, in the order of the updates.

        Raises:
            PresenceUnavailableError: The updates may have been applied or not.
        """

    async def read(self, channel: str, settings: PresenceSettings, limit: int) -> StoredPresence:
        """Return the members of a channel on all hubs.

        Args:
            channel: The channel.
            settings: The settings of the channel's presence.
            limit: Maximum number of members; 0 for the numbers alone.

        Raises:
            PresenceUnavailableError: The members cannot be read now.
        """
