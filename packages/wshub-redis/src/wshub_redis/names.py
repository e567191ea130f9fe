"""The names of channels on Redis (wire protocol, "Redis")."""

from wshub_core import InvalidChannelError, InvalidProcessIDError, validate_channel
from wshub_redis.errors import InvalidPrefixError


class Names:
    """What the channels of one fleet of hubs are called on Redis.

    Attributes:
        broadcast: The channel of broadcasts.
        all_channels: The pattern that matches the channels of the hub, and nothing else.

    Args:
        prefix: What tells this fleet from others on the same Redis: 1 to 256 characters of
            ``A-Za-z0-9_.:-``. Database numbers do not, because publishing ignores them.

    Raises:
        InvalidPrefixError: The prefix has other characters, or a part that other fleets' channels
            are made of, such as ``:channel:``: their messages would be taken for this fleet's.
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
                prefix, "':channel' and ':broadcast' are parts of the names of channels"
            )
        self.broadcast = f"{prefix}:broadcast".encode()
        # No character of a prefix has a meaning in a pattern.
        self.all_channels = f"{prefix}:channel:*".encode()
        self._channel = f"{prefix}:channel:"
        self._probe = f"{prefix}:probe:"

    def channel(self, channel: str) -> bytes:
        """Return what a channel of the hub is called; empty stands for a broadcast."""
        return (self._channel + channel).encode() if channel else self.broadcast

    def parse(self, name: bytes) -> str:
        """Return the hub's channel with that name; empty for broadcasts.

        Raises:
            InvalidChannelError: The name has no channel.
        """
        if name == self.broadcast:
            return ""
        # A pattern also matches names that no hub would publish to.
        channel = name[len(self._channel) :].decode(errors="replace")
        if not channel:
            raise InvalidChannelError(channel)
        return channel

    def probe(self, source_id: str, tag: str = "") -> bytes:
        """Return the channel by which a bridge finds out whether it hears anything.

        Args:
            source_id: The bridge's.
            tag: What decides about the slot in a cluster.
        """
        return f"{self._probe}{source_id}{tag}".encode()
