"""The receiver: messages from Redis to the clients of this hub."""

import contextlib
from time import monotonic

from wshub_core import (
    BridgePort,
    HubClosedError,
    HubNotStartedError,
    MessageTooLargeError,
    WSHubError,
)
from wshub_redis.connection import logger
from wshub_redis.duplicates import DuplicateFilter
from wshub_redis.envelope import Envelope, EnvelopeWriter, decode_envelope
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.stats import Counters

_DUPLICATE_SECONDS = 60.0
"""Time in seconds for which duplicates are recognized, in addition to ``replay_seconds``."""

_SHOWN_NAME_BYTES = 100
"""Number of bytes of a channel name that are logged. With a pattern, anybody who can publish on
Redis chooses the name."""


class Receiver:
    """Unwraps envelopes, drops duplicates and junk, and delivers the rest to the hub.

    Args:
        port: The port of the hub.
        channels: The names of the fleet's channels.
        envelopes: The bridge's own source of envelopes, which are dropped.
        replay_seconds: Maximum time for which publishers keep messages for another attempt.
        counters: The counters to update.
    """

    def __init__(
        self,
        port: BridgePort,
        channels: RedisChannels,
        envelopes: EnvelopeWriter,
        replay_seconds: float,
        counters: Counters,
    ) -> None:
        self._port = port
        self._channels = channels
        self._envelopes = envelopes
        self._counters = counters
        self._duplicates = DuplicateFilter(_DUPLICATE_SECONDS + replay_seconds)

    def receive(self, name: bytes, data: bytes) -> None:
        """Take a message from Redis; never raises.

        Args:
            name: The channel on Redis.
            data: The envelope.
        """
        try:
            channel = self._channels.from_redis(name)
            envelope = decode_envelope(data)
            if self._deliver(name, channel, envelope, len(data)):
                self._counters.received += 1
        except (HubClosedError, HubNotStartedError):
            pass
        except WSHubError as exc:
            self._counters.junk += 1
            shown = name[:_SHOWN_NAME_BYTES].decode(errors="replace")
            logger.warning("dropped a message on the Redis channel %r: %s", shown, exc)

    def deliver_unstored(self, name: bytes, payload: bytes) -> None:
        """Deliver a message of this hub that is in no history; never raises."""
        # The hub may close before its bridge is stopped.
        with contextlib.suppress(WSHubError):
            self._port.deliver_unstored(self._channels.from_redis(name), payload)

    def resync(self) -> None:
        """Let the hub read what it may have missed; never raises."""
        with contextlib.suppress(WSHubError):
            self._port.resync_history()

    def resync_presence(self) -> None:
        """Let the hub send its members again; never raises."""
        with contextlib.suppress(WSHubError):
            self._port.resync_presence()

    def _deliver(self, name: bytes, channel: str, envelope: Envelope, size: int) -> bool:
        """Deliver a message; return whether it came from another hub and is new."""
        is_own = envelope.source_id == self._envelopes.source_id
        payload = bytes(envelope.message)
        if envelope.offset and self._port.history_limits(channel) is not None:
            # The hub receives its own messages too, so that it has all of them in one order. It
            # recognizes duplicates by the offset, and replaces a message that is too large.
            self._port.deliver_stored(
                channel, envelope.epoch, envelope.offset, payload, is_own=is_own
            )
            return not is_own
        # The hub has delivered its own messages when they were published.
        if is_own:
            return False
        limit = self._port.max_message_bytes
        if size > limit:
            raise MessageTooLargeError(size, limit)
        if not self._duplicates.is_new(envelope.source_id, name, envelope.id, monotonic()):
            self._counters.duplicates += 1
            return False
        self._port.deliver(channel, payload)
        return True
