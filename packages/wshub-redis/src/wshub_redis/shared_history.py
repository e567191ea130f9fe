"""The histories that all hubs share, in Redis."""

import secrets
from collections.abc import Sequence
from typing import Any

from wshub_core import (
    BridgeUnavailableError,
    HistoryLimits,
    HistoryUnavailableError,
    StoredPage,
)
from wshub_redis.envelope import EnvelopeWriter
from wshub_redis.history_calls import HistoryCalls
from wshub_redis.history_writer import HistoryWriter
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.router import ShardRouter
from wshub_redis.scripts import Script, load_script
from wshub_redis.shard import Shard

_READ = load_script("history", "read")
_CLEAR = load_script("history", "clear")

HISTORY_SCRIPTS = (_READ, _CLEAR)
"""The scripts whose replies `SharedHistory` needs."""

_UNREADABLE = b""
"""The payload in place of an entry that somebody has changed or deleted. The hub replaces what is
no message."""

_PAGE_BYTES = 1_048_576
"""Size in bytes above which ``read.lua`` ends a page."""


class SharedHistory:
    """The histories of all channels; see `wshub_core.HistoryStore`.

    Args:
        channels: The names of the fleet's channels and keys.
        calls: The arguments of the scripts.
        envelopes: The bridge's source of envelopes.
        router: The shards.
    """

    def __init__(
        self,
        channels: RedisChannels,
        calls: HistoryCalls,
        envelopes: EnvelopeWriter,
        router: ShardRouter,
    ) -> None:
        self._channels = channels
        self._calls = calls
        self._writer = HistoryWriter(channels, calls, envelopes)
        self._router = router

    def append(self, channel: str, payload: bytes, limits: HistoryLimits) -> None:
        """Queue a message; see `wshub_core.HistoryStore.append`."""
        self._writer.append(self._shard(channel).history_sender, channel, payload, limits)

    async def publish(self, channel: str, payload: bytes, limits: HistoryLimits) -> None:
        """Queue a message, and wait until Redis has it; see `HistoryWriter.publish`."""
        await self._writer.publish(self._shard(channel).history_sender, channel, payload, limits)

    def _shard(self, channel: str) -> Shard:
        return self._router.shard_for(self._channels.to_redis(channel))

    async def read(
        self, channel: str, *, after: int, limit: int, limits: HistoryLimits
    ) -> StoredPage:
        """Return a page; see `wshub_core.HistoryStore.read`."""
        arguments = self._calls.read(limits, after, limit)
        try:
            reply = await self._call(_READ, channel, arguments)
        except HistoryUnavailableError:
            commands = self._shard(channel).commands
            if commands is None or commands.is_up:
                raise
            # The connection was lost during the call. The next one is usually up within a second.
            reply = await self._call(_READ, channel, arguments)
        return to_page(reply, after, limit)

    async def clear(self, channel: str, limits: HistoryLimits) -> str:
        """Begin a new epoch; see `wshub_core.HistoryStore.clear`."""
        reply: bytes = await self._call(_CLEAR, channel, self._calls.clear(limits))
        return reply.decode()

    async def _call(self, script: Script, channel: str, arguments: Sequence[bytes]) -> Any:
        commands = self._shard(channel).commands
        assert commands is not None, "a bridge with histories has these connections"
        seed = secrets.token_bytes(8)
        if not commands.is_up:
            await commands.wait_reconnected()
        try:
            return await commands.call(
                script, self._calls.keys(channel), [*arguments, commands.run_id, seed]
            )
        except BridgeUnavailableError as exc:
            raise HistoryUnavailableError(f"the history of {channel}: {exc}") from exc


def to_page(reply: list[Any], after: int, limit: int) -> StoredPage:
    """Return the page in a reply of ``read.lua``, without gaps."""
    epoch, first, newest, *entries = reply
    start = max(after + 1, first)
    payloads: list[bytes] = []
    size = 0
    for offset, payload in zip(entries[::2], entries[1::2], strict=True):
        payloads += [_UNREADABLE] * (offset - start - len(payloads))
        payloads.append(payload)
        size += len(payload)
    if size < _PAGE_BYTES:
        # The script has found no more entries, so the rest is missing.
        payloads += [_UNREADABLE] * (min(limit, newest + 1 - start) - len(payloads))
    return StoredPage(epoch.decode(), first, newest, start, payloads[:limit])
