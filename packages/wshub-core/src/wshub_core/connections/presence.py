"""Presence: the connections that are subscribed to a channel, as members of the channel."""

import secrets
from collections.abc import Callable, Iterator, Sequence

import msgspec

from wshub_core.bridge.presence_store import PresenceOutcome, StoredMember
from wshub_core.connections.connection import ServerConnection
from wshub_core.logs import get_logger
from wshub_core.loop.callbacks import Callbacks
from wshub_core.loop.clock import Clock
from wshub_core.loop.tasks import Tasks
from wshub_core.presence.reader import PresenceReader
from wshub_core.presence.snapshot import PresenceSnapshot
from wshub_core.presence.sync import PresenceSync
from wshub_core.protocol.registry import Registry
from wshub_core.values.channel_patterns import ChannelPatterns
from wshub_core.values.config import HubConfig
from wshub_core.values.encoding import encode, replace_surrogates
from wshub_core.values.errors import MessageEncodeError, NoPresenceError, WSHubError
from wshub_core.values.messages import JSON, Message, MessageType
from wshub_core.values.presence import MAX_INFO_BYTES, Member, PresenceSettings

logger = get_logger("wshub.presence")

_OVERHEAD_BYTES = 1_536
"""Maximum size in bytes of the parts of a message around the members: the longest channel, the
longest ``id`` of a frame with every character escaped, the position in a history, and the rest."""


class ChannelPresence:
    """The presence of the channels of a hub.

    `Subscriptions` reports each new subscription, and the registry reports the end of each
    subscription. So the members are always the subscribers.

    Args:
        config: The hub's settings.
        clock: The hub's clock.
        registry: The hub's connections and their subscriptions.
        callbacks: Calls of the application's callbacks.
        tasks: The tasks of the hub.
        publish: Publishes a message to a channel.

    Attributes:
        sync: The synchronization with the store of all hubs.
    """

    def __init__(
        self,
        config: HubConfig,
        clock: Clock,
        registry: Registry[ServerConnection],
        callbacks: Callbacks,
        tasks: Tasks,
        publish: Callable[[str, Message], None],
    ) -> None:
        # Random, so that no two hubs have members with the same id.
        self._hub_id = secrets.token_hex(8)
        self._get_info = config.presence_info
        self._registry = registry
        self._callbacks = callbacks
        self._publish = publish
        self._patterns = ChannelPatterns("HubConfig.presence", config.presence)
        self._max_members_bytes = config.max_message_bytes - _OVERHEAD_BYTES
        self.sync = PresenceSync(self._hub_id, clock, tasks, self._announce)
        self._reader = PresenceReader(self.sync, tasks, self._max_members_bytes)

    def settings_of(self, channel: str) -> PresenceSettings:
        """Return the settings of a channel.

        Raises:
            NoPresenceError: The channel has no presence.
        """
        settings = self._patterns.find(channel)
        if settings is None:
            raise NoPresenceError(channel)
        return settings

    def enter(self, connection: ServerConnection, channel: str) -> None:
        """Make a new subscriber a member, if the channel has presence."""
        settings = self._patterns.find(channel)
        if settings is None:
            return
        member = self._make_member(connection, channel)
        # `presence_info` may have ended the subscription, and may have begun it again.
        if self._registry.is_subscribed(connection, channel):
            room = self.sync.open_room(channel, settings)
            if member.connection_id not in room.members:
                room.enter(member)
                self.sync.note_change(channel)

    def leave(self, connection: ServerConnection, channel: str) -> None:
        """Remove a connection that is no subscriber any more, if it is a member."""
        room = self.sync.room(channel)
        if room is not None and room.leave(self._connection_id(connection)):
            self.sync.note_change(channel)

    async def read(self, channel: str, limit: int) -> PresenceSnapshot:
        """Return the members of a channel on all hubs.

        Args:
            channel: The channel.
            limit: Maximum number of members; 0 for the numbers alone.

        Raises:
            NoPresenceError: The channel has no presence.
            PresenceUnavailableError: The members cannot be read now.
        """
        return await self._reader.read(channel, self.settings_of(channel), limit)

    def _connection_id(self, connection: ServerConnection) -> str:
        return f"{self._hub_id}-{connection.id}"

    def _make_member(self, connection: ServerConnection, channel: str) -> StoredMember:
        info = None
        if self._get_info is not None:
            result = self._callbacks.call_plain(
                "presence_info", None, self._get_info, connection, channel
            )
            info = self._callbacks.call_plain("presence_info", None, _encode_info, result)
        member = Member(
            # An authenticator can return a text that is not valid Unicode.
            user_id=replace_surrogates(connection.user_id),
            connection_id=self._connection_id(connection),
            info=info,
        )
        return StoredMember(member.connection_id, member.user_id, msgspec.json.encode(member))

    def _announce(self, channel: str, outcome: PresenceOutcome) -> None:
        for message_type, payloads in (
            (MessageType.LEAVE, outcome.left),
            (MessageType.JOIN, outcome.joined),
        ):
            for part in _split(payloads, self._max_members_bytes):
                members = [msgspec.json.decode(payload) for payload in part]
                try:
                    self._publish(channel, Message(type=message_type, data=members))
                except WSHubError as exc:
                    logger.warning("a %s message on %r is lost: %s", message_type, channel, exc)


def _encode_info(info: JSON) -> msgspec.Raw | None:
    """Return the info of a member as JSON; None for null.

    Raises:
        MessageEncodeError: The info cannot be written as JSON, or is too large.
    """
    payload = encode(info, info)
    if len(payload) > MAX_INFO_BYTES:
        raise MessageEncodeError(
            f"the info of a member has {len(payload)} bytes, the limit is {MAX_INFO_BYTES}"
        )
    return None if info is None else msgspec.Raw(payload)


def _split(payloads: Sequence[bytes], max_bytes: int) -> Iterator[Sequence[bytes]]:
    """Yield the payloads in parts that fit into messages; each part has at least one payload."""
    part: list[bytes] = []
    size = 0
    for payload in payloads:
        if part and size + len(payload) > max_bytes:
            yield part
            part, size = [], 0
        part.append(payload)
        size += len(payload) + 1
    if part:
        yield part
