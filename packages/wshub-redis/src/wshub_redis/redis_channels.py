"""The names of a fleet's channels and keys on Redis (wire protocol, "Between hubs")."""

from wshub_core import (
    BROADCAST,
    InvalidChannelError,
    InvalidProcessIDError,
    validate_channel,
)
from wshub_redis.errors import InvalidPrefixError


class RedisChannels:
    """The channels and keys on Redis of all hubs that share a prefix.

    Attributes:
        broadcast: The channel of broadcasts.
        all_channels: The pattern that matches the Redis channel of every hub channel.

    Args:
        prefix: The name of the fleet, 1 to 256 characters of ``A-Za-z0-9_.:-``. Fleets on one
            Redis need different prefixes: a database number does not separate them, because
            ``PUBLISH`` ignores databases.
        is_sharded: Whether each channel and its keys have a slot of their own in a cluster.

    Raises:
        InvalidPrefixError: The prefix has other characters, or a part such as ``:channel:`` with
            which its channels could be taken for those of another fleet.
    """

    def __init__(self, prefix: str, *, is_sharded: bool = False) -> None:
        try:
            validate_channel(prefix)
        except (InvalidChannelError, InvalidProcessIDError) as exc:
            raise InvalidPrefixError(
                prefix, "use 1 to 256 characters of A-Z a-z 0-9 _ . : -"
            ) from exc
        if ":channel:" in f"{prefix}:" or prefix.endswith(":broadcast"):
            raise InvalidPrefixError(
                prefix, "':channel' and ':broadcast' are reserved for the names of channels"
            )
        self.broadcast = f"{prefix}:broadcast".encode()
        # The prefix needs no escaping: none of its characters has a meaning in a pattern.
        self.all_channels = f"{prefix}:channel:*".encode()
        self._prefix = prefix
        self._is_sharded = is_sharded
        self._channel = f"{prefix}:channel:"
        self._probe = f"{prefix}:probe:"

    def to_redis(self, channel: str) -> bytes:
        """Return the Redis channel of a hub channel, or of `wshub_core.BROADCAST`."""
        if channel == BROADCAST:
            return self.broadcast
        return (self._channel + channel).encode()

    def from_redis(self, name: bytes) -> str:
        """Return the hub channel of a Redis channel, or `wshub_core.BROADCAST`.

        Raises:
            InvalidChannelError: The Redis channel ends where the hub channel should begin.
        """
        if name == self.broadcast:
            return BROADCAST
        # The pattern also matches names that no hub publishes to, such as one that is not UTF-8
        # or has no channel at all. An empty result would be taken for BROADCAST.
        channel = name[len(self._channel) :].decode(errors="replace")
        if not channel:
            raise InvalidChannelError(channel)
        return channel

    @property
    def home(self) -> bytes:
        """A name in the slot that has all keys; it means nothing with sharded publishing."""
        return self._prefix.encode()

    def key(self, kind: str, channel: str) -> bytes:
        """Return a key of a channel.

        In a cluster, one script uses all keys of a channel, so they are in one slot. With sharded
        publishing this is the slot of the channel, because the script also publishes. Otherwise it
        is one slot for all channels.

        Args:
            kind: The purpose of the key.
            channel: The hub channel.
        """
        # Redis hashes the part in braces only. No prefix and no channel has a brace.
        tag = self._channel + channel if self._is_sharded else self._prefix
        return f"{self._prefix}:{kind}:{{{tag}}}:{channel}".encode()

    def probe(self, source_id: str, hash_tag: str = "") -> bytes:
        """Return the channel on which a bridge tests its own connections.

        Args:
            source_id: The source id of the bridge.
            hash_tag: The part of the name that decides about its slot in a cluster.
        """
        return f"{self._probe}{source_id}{hash_tag}".encode()
