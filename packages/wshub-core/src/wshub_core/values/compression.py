"""The settings of the compression of messages (wire protocol, "Compression")."""

from dataclasses import dataclass

from wshub_core.values.errors import InvalidConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """The settings of the compression of messages with permessage-deflate (RFC 7692).

    Attributes:
        min_bytes: Size of a message in bytes below which it is sent uncompressed. Small messages
            become hardly smaller.

    Raises:
        InvalidConfigError: ``min_bytes`` is not a number above 0.
    """

    min_bytes: int = 256

    def __post_init__(self) -> None:
        size = self.min_bytes
        if isinstance(size, bool) or not isinstance(size, int) or size <= 0:
            raise InvalidConfigError(
                f"Compression.min_bytes must be a number of bytes above 0, not {size!r}"
            )
