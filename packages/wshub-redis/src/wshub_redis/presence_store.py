"""The members of channels on Redis, for all hubs of a fleet."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from wshub_core import (
    BridgeUnavailableError,
    PresenceOutcome,
    PresenceSettings,
    PresenceUnavailableError,
    PresenceUpdate,
    StoredMember,
    StoredPresence,
)
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.router import ShardRouter
from wshub_redis.scripts import Script, load_script

LEASE_SECONDS = 60.0
"""Time in seconds after its last update after which the members of a hub are gone."""

_MAX_CLEANUPS = 100
"""Maximum number of calls for one read, while the members of dead hubs are removed."""

_CALL_SIZE = 1_000
"""Maximum number of changed members in one call. The server handles them in some milliseconds."""

_UPDATE_SIZE = 10
"""Number of changed members that cost as much as an update without changes."""

_KEYS = (b"hubs", b"users", b"leaving", b"gone", b"members|")
"""The keys of a channel; the last one is the beginning of several."""

PRESENCE_SCRIPTS = UPDATE, READ = (
    load_script("presence", "presence_update"),
    load_script("presence", "presence_read"),
)
"""The scripts of the store."""

_encoder = msgspec.msgpack.Encoder()


class RedisPresenceStore:
    """A `wshub_core.PresenceStore` on Redis.

    The members of each hub in a channel have a lease, which every update of the hub renews. The
    scripts use the clock of the server, so the clocks of the hubs do not matter. Each script runs
    as a whole, and decides which users have come and gone.

    Args:
        channels: The names of the fleet's channels and keys.
        router: The shards.
        is_sharded: Whether the keys of channels are in different slots.
    """

    def __init__(self, channels: RedisChannels, router: ShardRouter, *, is_sharded: bool) -> None:
        self._channels = channels
        self._router = router
        self._is_sharded = is_sharded

    @property
    def refresh_seconds(self) -> float:  # noqa: D102
        return LEASE_SECONDS / 3

    async def update(
        self, hub_id: str, updates: Sequence[PresenceUpdate]
    ) -> Sequence[PresenceOutcome]:
        """Apply updates; see `wshub_core.PresenceStore.update`."""
        calls = [self._update(hub_id, group) for group in self._group(updates)]
        # All calls end before this method does: later updates must not overtake them.
        results = await asyncio.gather(*calls, return_exceptions=True)
        outcomes: list[PresenceOutcome] = []
        for result in results:
            if isinstance(result, BridgeUnavailableError):
                raise PresenceUnavailableError(str(result)) from result
            if isinstance(result, BaseException):
                raise result
            outcomes += result
        return outcomes

    def _group(self, updates: Sequence[PresenceUpdate]) -> Iterator[list[PresenceUpdate]]:
        """Yield the updates of each call."""
        group: list[PresenceUpdate] = []
        size = 0
        for update in updates:
            changes = len(update.left) + len(update.entered)
            # A call can only use keys of one slot.
            if group and (self._is_sharded or size + changes > _CALL_SIZE):
                yield group
                group, size = [], 0
            group.append(update)
            size += changes + _UPDATE_SIZE
        if group:
            yield group

    async def read(self, channel: str, settings: PresenceSettings, limit: int) -> StoredPresence:
        """Return the members of a channel; see `wshub_core.PresenceStore.read`."""
        arguments = [b"%d" % number for number in (*_settings(settings), limit)]
        try:
            for _ in range(_MAX_CLEANUPS):
                reply = await self._call(READ, [channel], arguments)
                is_final, connections, users, payloads = reply
                if is_final:
                    return StoredPresence(connections, users, payloads)
        except BridgeUnavailableError as exc:
            raise PresenceUnavailableError(str(exc)) from exc
        raise PresenceUnavailableError("the members of dead hubs are still being removed")

    async def _update(
        self, hub_id: str, updates: Sequence[PresenceUpdate]
    ) -> Sequence[PresenceOutcome]:
        packed = _encoder.encode([*map(_pack_update, updates)])
        channels = [update.channel for update in updates]
        outcomes = [PresenceOutcome()] * len(updates)
        for report in await self._call(UPDATE, channels, [hub_id.encode(), packed]):
            index, needs_all, milliseconds, joined, left = report
            next_leave = None if milliseconds < 0 else milliseconds / 1_000
            outcomes[index] = PresenceOutcome(joined, left, next_leave, bool(needs_all))
        return outcomes

    async def _call(
        self, script: Script, channels: Sequence[str], arguments: Sequence[bytes]
    ) -> Any:
        name = self._channels.to_redis(channels[0])
        commands = self._router.shard_for(name).commands
        assert commands is not None, "a bridge of a hub with presence has these connections"
        bases = (self._channels.key("presence", channel) for channel in channels)
        # No name of a channel has a vertical bar, so the keys of channels cannot clash.
        keys = [b"%b|%b" % (base, part) for base in bases for part in _KEYS]
        return await commands.call(script, keys, [b"%d" % (LEASE_SECONDS * 1_000), *arguments])


def _settings(settings: PresenceSettings) -> tuple[bool, int]:
    return settings.announce, int(settings.leave_delay * 1_000)


def _pack_update(update: PresenceUpdate) -> Any:
    kept = None if update.kept is None else [*update.kept]
    changes = (
        [_pack_member(each) for each in update.left],
        [_pack_member(each) for each in update.entered],
    )
    return *_settings(update.settings), update.base, update.version, *changes, kept


def _pack_member(member: StoredMember) -> Any:
    # Texts, because the MessagePack of Redis has no type for bytes.
    payload = member.payload.decode()
    return member.connection_id, member.user_key, payload, member.is_announced
