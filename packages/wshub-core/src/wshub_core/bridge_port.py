"""The bridge port: the methods of a hub that a bridge calls."""

from collections.abc import Callable, Collection
from typing import Any

from wshub_core.bridge.history_store import HistoryStore
from wshub_core.bridge.presence_store import PresenceStore
from wshub_core.bridge.protocol import Bridge
from wshub_core.connections.running_hub import RunningHub
from wshub_core.history.replica import StoredMessage
from wshub_core.values.history import HistoryLimits
from wshub_core.values.messages import Message


class BridgePort:
    """The interface of a hub for its bridge, as `Hub.bridge_port`.

    Use it on the hub's event loop. Unless noted otherwise, every method raises
    `HubNotStartedError` before the hub is entered, `HubClosedError` after its end, and
    `ForkedProcessError` in a forked child.

    Args:
        max_message_bytes: Largest payload of a message, in bytes.
        get_running: Returns the running hub, or raises an error.
        get_unchecked: Returns the hub that has been entered, even after its end, or None.

    Attributes:
        max_message_bytes: Largest payload of a message, in bytes.
    """

    def __init__(
        self,
        max_message_bytes: int,
        get_running: Callable[[], RunningHub],
        get_unchecked: Callable[[], RunningHub | None],
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self._get_running = get_running
        self._get_unchecked = get_unchecked

    def attach(
        self,
        bridge: Bridge,
        *,
        history: HistoryStore | None = None,
        presence: PresenceStore | None = None,
    ) -> None:
        """Attach a bridge. The bridge calls this method when it is ready.

        From then on, publishing methods reach the clients of all hubs, unless ``local_only`` is
        given. The hub subscribes the bridge to the channels that have subscribers here.

        Args:
            bridge: The bridge.
            history: The histories that all hubs share. Without it, each hub has its own.
            presence: The store of the members of channels. Without one, or if the hub has no
                channels with presence, each hub knows its own members only.

        Raises:
            BridgeAttachedError: The hub has a bridge already.
        """
        running = self._get_running()
        running.relay.attach(bridge)
        if history is not None:
            running.histories.attach(history, running.registry.channels)
        if presence is not None and running.presence is not None:
            running.presence.sync.use_store(presence)

    def detach(self) -> None:
        """Detach the bridge, so that messages reach only the clients of this hub.

        The call is harmless without a bridge, before the hub is entered, and after its end. Call
        `withdraw_presence` before.
        """
        running = self._get_unchecked()
        if running is not None:
            running.check_process()
            running.relay.detach()
            running.histories.detach()
            if running.presence is not None:
                running.presence.sync.use_memory()

    @property
    def has_presence(self) -> bool:
        """True if a channel of the hub can have presence, so that a store is of use."""
        running = self._get_unchecked()
        return running is not None and running.presence is not None

    def resync_presence(self) -> None:
        """Send all members of this hub to the store again.

        Call this method when the store can be reached again after a failure. The hub waits for two
        seconds, so that the other hubs return too.
        """
        presence = self._get_running().presence
        if presence is not None:
            presence.sync.send_all()

    async def withdraw_presence(self) -> None:
        """Remove the members of this hub from the store, and use the store no more.

        Call this method before `detach`, and limit its time. Otherwise the other hubs see the
        members of this hub until the store forgets them.
        """
        running = self._get_unchecked()
        if running is not None and running.presence is not None:
            running.check_process()
            await running.presence.sync.withdraw()

    @property
    def bridged_channels(self) -> Collection[str]:
        """The channels that the bridge must deliver now, for resubscribing after a reconnect.

        Empty before the hub is entered.
        """
        running = self._get_unchecked()
        return () if running is None else running.relay.channels

    def deliver(self, channel: str, payload: bytes) -> None:
        """Deliver a message of another hub to the clients of this hub.

        Deliver the messages of one publisher and channel in the order in which they were published.
        The message keeps its timestamp; a message without a timestamp is stamped.

        Args:
            channel: The channel; `BROADCAST` for a message to every connection.
            payload: The message, one JSON object in UTF-8.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The process id in the channel or the message is not allowed.
            MessageDecodeError: The payload is not a message.
            MessageTooLargeError: The message exceeds ``max_message_bytes``.
        """
        self._get_running().deliver(channel, payload)

    def deliver_stored(
        self, channel: str, epoch: str, offset: int, payload: bytes, *, is_own: bool
    ) -> None:
        """Deliver a message of the shared history to the clients of this hub.

        Messages may come twice or with gaps. The hub delivers each once, in the order of the
        offsets, and reads what is missing.

        Args:
            channel: The channel.
            epoch: The epoch of the stream.
            offset: The offset of the message.
            payload: The message, one JSON object. A position in it is replaced.
            is_own: Whether this hub has published it.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            MessageDecodeError: The epoch or the offset has an invalid form.
        """
        message = StoredMessage(epoch, offset, payload, is_own)
        self._get_running().publishing.deliver_stored(channel, message)

    def deliver_unstored(self, channel: str, payload: bytes) -> None:
        """Deliver a message of this hub to its clients without a position: the store lost it."""
        self._get_running().publishing.deliver_unstored(channel, payload)

    def resync_history(self) -> None:
        """Compare all positions with the store; call it when messages arrive again."""
        self._get_running().histories.resync()

    @property
    def has_history(self) -> bool:
        """True if a channel can have a history, so that the bridge needs a store."""
        return self._get_running().histories.has_any

    def history_limits(self, channel: str) -> HistoryLimits | None:
        """Return the size of the history of a channel; None if it has no history."""
        return self._get_running().histories.limits_of(channel)

    def publish_local(self, channel: str, message: Message) -> bytes:
        """Publish to the clients of this hub alone, for a bridge that confirms its sending.

        With a shared history, a message of a channel with history is not delivered here: the bridge
        appends the payload to its store.

        Returns:
            The payload for the other hubs, which is the same as for the clients here.

        Raises:
            WSHubError: As `Hub.publish` does.
        """
        return self._get_running().publishing.publish_local(channel, message)

    def broadcast_local(self, message: Message) -> bytes:
        """Broadcast to the clients of this hub alone; see `publish_local`.

        Raises:
            WSHubError: As `Hub.broadcast` does.
        """
        return self._get_running().publishing.broadcast_local(message)

    def spawn_callback(self, name: str, callback: Callable[..., Any], *args: object) -> None:
        """Call a callback of the application, which may be plain or async.

        An exception is logged and counted, and does not reach the bridge.

        Args:
            name: The callback's name, for the log and the metrics: one of a few.
            callback: The callback. An async callback runs in a task that the hub ends when it
                closes.
            *args: The arguments of the callback.
        """
        self._get_running().callbacks.spawn(name, callback, *args)
