"""The settings that bridges and publishers share."""

from dataclasses import dataclass

from wshub_core import InvalidConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionSettings:
    """Timeouts and limits of connections to Redis; `RedisBridge` documents each.

    Raises:
        InvalidConfigError: A value is out of range.
    """

    timeout: float = 5.0
    probe_interval: float = 30.0
    replay_seconds: float = 5.0
    max_queue_bytes: int = 8_388_608
    is_sharded: bool = False

    def __post_init__(self) -> None:
        for name in ("timeout", "probe_interval", "max_queue_bytes"):
            # Written with "not" so that NaN is refused as well.
            if not getattr(self, name) > 0:
                raise InvalidConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        if not self.replay_seconds >= 0:
            raise InvalidConfigError(
                f"replay_seconds must be 0 or above, not {self.replay_seconds}"
            )
