"""The store of a presence in the memory of one process."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from wshub_core.bridge.presence_store import (
    PresenceOutcome,
    PresenceUpdate,
    StoredMember,
    StoredPresence,
)
from wshub_core.values.presence import PresenceSettings


class LocalPresence:
    """A `PresenceStore` for the hubs of one process. It never forgets members, and never fails.

    Args:
        time: Returns the time in seconds.
    """

    refresh_seconds = math.inf

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._channels: dict[str, _Channel] = {}

    async def update(
        self, hub_id: str, updates: Sequence[PresenceUpdate]
    ) -> Sequence[PresenceOutcome]:
        """Apply updates; see `PresenceStore.update`."""
        return [self._apply(hub_id, update) for update in updates]

    async def read(self, channel: str, settings: PresenceSettings, limit: int) -> StoredPresence:
        """Return the members of a channel; see `PresenceStore.read`."""
        return self._channels.get(channel, _Channel()).read(limit)

    def _apply(self, hub_id: str, update: PresenceUpdate) -> PresenceOutcome:
        channel = self._channels.setdefault(update.channel, _Channel())
        now = self._time()
        channel.remove(hub_id, update, now)
        joined = channel.add(hub_id, update)
        left = channel.pop_left(now)
        due = channel.next_leave
        if channel.is_empty:
            del self._channels[update.channel]
        return PresenceOutcome(joined, left, None if due is None else due - now)


class _Channel:
    """The members of one channel, by hub, and the users who are about to go."""

    def __init__(self) -> None:
        self._hubs: dict[str, dict[str, StoredMember]] = {}
        self._connections_of: Counter[str] = Counter()
        # The time at which a user is reported as gone, and the user's last member. The times are in
        # order, because all users have the same delay.
        self._leaving: dict[str, tuple[float, bytes]] = {}
        # Connections without a user, which the same update reports.
        self._left: dict[str, bytes] = {}

    @property
    def is_empty(self) -> bool:
        return not self._hubs and not self._leaving

    @property
    def next_leave(self) -> float | None:
        return next((due for due, _ in self._leaving.values()), None)

    def remove(self, hub_id: str, update: PresenceUpdate, now: float) -> None:
        members = self._hubs.get(hub_id, {})
        gone = [each.connection_id for each in update.left]
        if update.kept is not None:
            gone += members.keys() - set(update.kept)
        for connection_id in gone:
            member = members.pop(connection_id, None)
            if member is not None:
                self._count_out(member, update.settings, now)
        if not members:
            self._hubs.pop(hub_id, None)

    def add(self, hub_id: str, update: PresenceUpdate) -> list[bytes]:
        joined = []
        for member in update.entered:
            members = self._hubs.setdefault(hub_id, {})
            if member.connection_id in members:
                continue
            members[member.connection_id] = member
            key = member.user_key
            self._connections_of[key] += 1
            # A connection can unsubscribe and subscribe again within one update.
            has_returned = bool(self._leaving.pop(key, None) or self._left.pop(key, None))
            is_first = self._connections_of[key] == 1
            if is_first and not has_returned and not member.is_announced:
                joined.append(member.payload)
        return joined if update.settings.announce else []

    def pop_left(self, now: float) -> list[bytes]:
        left = [*self._left.values()]
        self._left = {}
        for key, (due, payload) in tuple(self._leaving.items()):
            if due > now:
                break
            del self._leaving[key]
            left.append(payload)
        return left

    def read(self, limit: int) -> StoredPresence:
        members = [each for hub in self._hubs.values() for each in hub.values()]
        payloads = [each.payload for each in members[:limit]]
        return StoredPresence(len(members), len(self._connections_of), payloads)

    def _count_out(self, member: StoredMember, settings: PresenceSettings, now: float) -> None:
        key = member.user_key
        self._connections_of[key] -= 1
        if self._connections_of[key]:
            return
        del self._connections_of[key]
        if settings.announce and not member.user_id:
            self._left[key] = member.payload
        elif settings.announce:
            self._leaving[key] = (now + settings.leave_delay, member.payload)
