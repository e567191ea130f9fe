"""The names of a fleet's channels on Redis (wire protocol, "Between hubs")."""

from wshub_core import (
    BROADCAST,
    InvalidChannelError,
    InvalidProcessIDError,
    validate_channel,
)
from wshub_redis.errors import InvalidPrefixError


class RedisChannels:
    """The channels on Redis of all hubs that share a prefix.

    Attributes:
        broadcast: The channel of broadcasts.
        all_channels: The pattern that matches the Redis channel of every hub channel.

    Args:
        prefix: The name of the fleet, 1 to 256 characters of ``A-Za-z0-9_.:-``. Fleets on one
            Redis need different prefixes: a database number does not separate them, because
            ``PUBLISH`` ignores databases.

    Raises:
        InvalidPrefixError: The prefix has other characters, or a part such as ``:channel:`` with
            which its channels could be taken for those of another fleet.
    """

    def __init__(self, prefix: str) -> None:
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

    def probe(self, source_id: str, hash_tag: str = "") -> bytes:
        """Return the channel on which a bridge tests its own connections.

        Args:
            source_id: The source id of the bridge.
            hash_tag: The part of the name that decides about its slot in a cluster.
        """
        return f"{self._probe}{source_id}{hash_tag}".encode()
