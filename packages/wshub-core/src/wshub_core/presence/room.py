"""The room: the members of one channel on this hub, and the changes for the store."""

from itertools import islice

from wshub_core.bridge.presence_store import PresenceUpdate, StoredMember
from wshub_core.values.presence import PresenceSettings

_MAX_CHANGES = 1_000
"""Maximum number of members that enter, and of members that leave, in one update. A server handles
them in a few milliseconds."""

_MAX_LEFT = 10_000
"""Maximum number of members that have left and wait for a store that cannot be reached. Above it,
the oldest are forgotten: a complete update removes them too, but their users may not be announced
if the store has lost its data."""


class Room:
    """The members of one channel on this hub, and the changes that the store does not have yet.

    One update at a time is under way. Changes that happen meanwhile are part of the next update, so
    a member that leaves while its entry is under way is removed again. If the result of an update
    is unknown, the next one is complete.

    Args:
        channel: The channel.
        settings: The settings of the channel's presence.

    Attributes:
        members: The members, by the id of the connection.
        settings: The settings of the channel's presence.
    """

    def __init__(self, channel: str, settings: PresenceSettings) -> None:
        self.members: dict[str, StoredMember] = {}
        self.settings = settings
        self._channel = channel
        # Members that the next updates contain.
        self._entering: dict[str, StoredMember] = {}
        # Members that have left since the first update; the store may have them.
        self._leaving: dict[str, StoredMember] = {}
        self._version = 0
        # A room that is created again does not know the last version in the store, so its first
        # update is complete.
        self._needs_all = True
        self._was_sent = False
        # Users are about to go: a further update will report them.
        self._awaits_leaves = False
        self._under_way: PresenceUpdate | None = None

    @property
    def was_sent(self) -> bool:
        """True if the store may have members of the room."""
        return self._was_sent

    @property
    def has_changes(self) -> bool:
        """True if the store does not have the present members."""
        return bool(
            self._entering
            or self._leaving
            or self._under_way
            or (self._needs_all and (self._was_sent or self.members))
        )

    @property
    def is_over(self) -> bool:
        """True if the room has no members, and no update of it is of use."""
        return not self.members and not self.has_changes and not self._awaits_leaves

    def enter(self, member: StoredMember) -> None:
        """Add a member, which must not be in the room."""
        self.members[member.connection_id] = member
        self._entering[member.connection_id] = member

    def leave(self, connection_id: str) -> bool:
        """Remove a member; return False if it is not in the room."""
        member = self.members.pop(connection_id, None)
        if member is None:
            return False
        self._entering.pop(connection_id, None)
        if self._was_sent:
            self._leaving[connection_id] = member
            if len(self._leaving) > _MAX_LEFT:
                del self._leaving[next(iter(self._leaving))]
                self._needs_all = True
        return True

    def take_update(self, version: int) -> PresenceUpdate:
        """Return the next update, which is under way from now on.

        Args:
            version: The version of the update.
        """
        kept = None
        if self._needs_all:
            kept = tuple(self.members)
            self._entering = dict(self.members)
        left = [*islice(self._leaving.values(), _MAX_CHANGES)]
        entered = [*islice(self._entering.values(), _MAX_CHANGES)]
        for member in left:
            del self._leaving[member.connection_id]
        for member in entered:
            del self._entering[member.connection_id]
        self._needs_all = False
        self._was_sent = True
        self._under_way = PresenceUpdate(
            self._channel, self.settings, self._version, version, left, entered, kept
        )
        return self._under_way

    def confirm(self, update: PresenceUpdate, *, awaits_leaves: bool = False) -> bool:
        """Record that the store has applied an update.

        Args:
            update: The update.
            awaits_leaves: Whether a later update will report users who have gone.

        Returns:
            True if the update had no room for some changes, which can follow at once.
        """
        if update is not self._under_way:
            return False  # the store was replaced meanwhile
        self._under_way = None
        self._awaits_leaves = awaits_leaves
        self._version = update.version
        for member in update.entered:
            member.is_announced = True
        return _MAX_CHANGES in (len(update.left), len(update.entered))

    def fail(self, update: PresenceUpdate) -> None:
        """Record that the store may not have applied the update."""
        if update is self._under_way:
            self._under_way = None
            self._needs_all = True
            self._leaving = {each.connection_id: each for each in update.left} | self._leaving

    def send_all(self) -> None:
        """Make the next update complete, because the store may have lost members."""
        self._needs_all = True

    def begin_again(self, *, is_announced: bool) -> None:
        """Forget the state of the store, which is replaced by an empty one.

        Args:
            is_announced: Whether the users who were announced are known to the hubs of the new
                store.
        """
        self._entering = dict(self.members)
        self._leaving = {}
        self._version = 0
        self._needs_all = True
        self._was_sent = False
        self._awaits_leaves = False
        self._under_way = None
        for member in self.members.values():
            member.is_announced = member.is_announced and is_announced
