"""The members of channels on Redis, for all hubs of a fleet."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
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
from wshub_redis.scripts import Script, load_script

LEASE_SECONDS = 60.0
"""Time in seconds after its last update after which the members of a hub are gone."""

_MAX_CLEANUPS = 100
"""Maximum number of calls for one read, while the members of dead hubs are removed."""

PRESENCE_SCRIPTS = UPDATE, READ = (
    load_script("presence", "presence_update"),
    load_script("presence", "presence_read"),
)
"""The scripts of the store."""

CallScript = Callable[[str, Script, Sequence[bytes], Sequence[bytes]], Awaitable[Any]]
"""Runs a script for a channel, with keys and arguments, and returns its reply."""

_encoder = msgspec.msgpack.Encoder()


class RedisPresenceStore:
    """A `wshub_core.PresenceStore` on Redis.

    The members of each hub in a channel have a lease, which every update of the hub renews. The
    scripts use the clock of the server, so the clocks of the hubs do not matter. Each script runs
    as a whole, and decides which users have come and gone.

    Args:
        channels: The names of the fleet's keys.
        call: Runs a script on the server of a channel. It raises `BridgeUnavailableError`, at once
            if the server is known to be unreachable.
    """

    refresh_seconds = LEASE_SECONDS / 3

    def __init__(self, channels: RedisChannels, call: CallScript) -> None:
        self._channels = channels
        self._call = call

    async def update(
        self, hub_id: str, updates: Sequence[PresenceUpdate]
    ) -> Sequence[PresenceOutcome]:
        """Apply updates; see `wshub_core.PresenceStore.update`."""
        calls = [self._update(hub_id, update) for update in updates]
        # All calls end before this method does: later updates must not overtake them.
        results = await asyncio.gather(*calls, return_exceptions=True)
        outcomes = []
        for result in results:
            if isinstance(result, BridgeUnavailableError):
                raise PresenceUnavailableError(str(result)) from result
            if isinstance(result, BaseException):
                raise result
            outcomes.append(result)
        return outcomes

    async def read(self, channel: str, settings: PresenceSettings, limit: int) -> StoredPresence:
        """Return the members of a channel; see `wshub_core.PresenceStore.read`."""
        keys, arguments = self._keys(channel), [*_head(settings), b"%d" % limit]
        try:
            for _ in range(_MAX_CLEANUPS):
                reply = await self._call(channel, READ, keys, arguments)
                is_final, connections, users, payloads = reply
                if is_final:
                    return StoredPresence(connections, users, payloads)
        except BridgeUnavailableError as exc:
            raise PresenceUnavailableError(str(exc)) from exc
        raise PresenceUnavailableError("the members of dead hubs are still being removed")

    async def _update(self, hub_id: str, update: PresenceUpdate) -> PresenceOutcome:
        kept = None if update.kept is None else [*update.kept]
        changes = _encoder.encode([_pack(update.left), _pack(update.entered), kept])
        arguments = [
            *_head(update.settings),
            hub_id.encode(),
            b"%d" % update.base,
            b"%d" % update.version,
            changes,
        ]
        reply = await self._call(update.channel, UPDATE, self._keys(update.channel), arguments)
        needs_all, milliseconds, joined, left = reply
        return PresenceOutcome(
            joined=joined,
            left=left,
            next_leave=None if milliseconds < 0 else milliseconds / 1_000,
            needs_all=bool(needs_all),
        )

    def _keys(self, channel: str) -> list[bytes]:
        # No name of a channel has a vertical bar, so the keys of channels cannot clash.
        key = self._channels.key("presence", channel)
        return [b"%b|%b" % (key, part) for part in _PARTS]


_PARTS = (b"hubs", b"users", b"leaving", b"gone", b"members|")
"""The keys of a channel; the last one is the beginning of several."""


def _head(settings: PresenceSettings) -> list[bytes]:
    numbers = (LEASE_SECONDS * 1_000, settings.announce, settings.leave_delay * 1_000)
    return [b"%d" % number for number in numbers]


def _pack(members: Sequence[StoredMember]) -> list[tuple[str, str, str, bool]]:
    # Texts, because the MessagePack of Redis has no type for bytes.
    return [
        (each.connection_id, each.user_key, each.payload.decode(), each.is_announced)
        for each in members
    ]
