"""The arguments of the history scripts."""

from wshub_core import HistoryLimits
from wshub_redis.envelope import EnvelopeWriter
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.resp import encode_parts

_POSITION_MILLISECONDS = 86_400_000
"""Time in milliseconds for which the position of a channel outlives its messages. Clients that
return later are told of a new epoch."""

_EMPTY_MILLISECONDS = 3_600_000
"""Time in milliseconds for which a channel keeps its epoch before the first message."""

_MAX_MILLISECONDS = 10**14
"""Longest age in milliseconds, about 3,000 years: Redis refuses times that exceed 64 bits."""

_MAX_COUNT = 2**53
"""Largest limit: Lua keeps larger numbers not exact."""

_CACHED_CHANNELS = 1_024
"""Number of channels whose arguments are kept encoded."""


class HistoryCalls:
    """Encodes the arguments of the history scripts.

    Args:
        channels: The names of the fleet's channels and keys.
        is_sharded: Whether messages are published with ``SPUBLISH``.
    """

    def __init__(self, channels: RedisChannels, *, is_sharded: bool) -> None:
        self._channels = channels
        self._command = b"SPUBLISH" if is_sharded else b"PUBLISH"
        self._encoded: dict[tuple[str, HistoryLimits], bytes] = {}

    def keys(self, channel: str) -> tuple[bytes, bytes]:
        """Return the keys of the history of a channel."""
        return self._channels.key("history", channel), self._channels.key("position", channel)

    def publish(self, channel: str, limits: HistoryLimits) -> list[bytes]:
        """Return the arguments of ``publish.lua`` that do not depend on the message."""
        name = self._channels.to_redis(channel)
        return [self._command, name, *_limits(limits), _position_expiry(limits)]

    def encode_publish(
        self, channel: str, limits: HistoryLimits, source_id: bytes, envelope_id: int, size: int
    ) -> bytes:
        """Return the encoded arguments of ``publish.lua`` up to the message.

        Args:
            channel: The channel.
            limits: The size of the history.
            source_id: The source of the envelope.
            envelope_id: The id of the envelope.
            size: The size of the message in bytes.
        """
        key = channel, limits
        fixed = self._encoded.get(key)
        if fixed is None:
            fixed = encode_parts(b"2", *self.keys(channel), *self.publish(channel, limits))
            if len(self._encoded) == _CACHED_CHANNELS:
                del self._encoded[next(iter(self._encoded))]
            self._encoded[key] = fixed
        number = b"%d" % envelope_id
        return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n" % (
            fixed,
            len(source_id),
            source_id,
            len(number),
            number,
            size,
        )

    def message(self, envelopes: EnvelopeWriter, payload: bytes) -> list[bytes]:
        """Return the other arguments of ``publish.lua``, for a client that may repeat the call.

        The run id is left out, because such a client does not know when its server has changed. The
        next hub that reads or publishes begins a new epoch then.
        """
        envelope_id = envelopes.next_id()
        return [envelopes.source_id.encode(), b"%d" % envelope_id, payload, b"", b"1"]

    def read(self, limits: HistoryLimits, after: int, limit: int) -> list[bytes]:
        """Return the arguments of ``read.lua`` before the run id."""
        return [b"%d" % after, b"%d" % limit, *_limits(limits), b"%d" % _EMPTY_MILLISECONDS]

    def clear(self, limits: HistoryLimits) -> list[bytes]:
        """Return the arguments of ``clear.lua`` before the run id."""
        return [_position_expiry(limits)]


def _limits(limits: HistoryLimits) -> list[bytes]:
    counts = (max(1, int(min(count, _MAX_COUNT))) for count in (limits.messages, limits.bytes))
    return [b"%d" % number for number in (*counts, _age(limits))]


def _position_expiry(limits: HistoryLimits) -> bytes:
    return b"%d" % (2 * _age(limits) + _POSITION_MILLISECONDS)


def _age(limits: HistoryLimits) -> int:
    """Return the maximum age in milliseconds, at least 1."""
    return max(1, int(min(limits.seconds * 1_000, _MAX_MILLISECONDS)))
