"""The bridge port: everything that a hub offers to a bridge."""

from collections.abc import Callable, Collection
from typing import Any

from wshub_core.bridge.protocol import Bridge
from wshub_core.connections.running_hub import RunningHub
from wshub_core.values.messages import Message


class BridgePort:
    """The side of a hub that a bridge uses; `Hub.bridge_port` returns it.

    Use it on the hub's event loop. Unless noted otherwise, every method raises
    `HubNotStartedError` before the hub is entered, and `HubClosedError` after its end.

    Args:
        max_message_bytes: Largest payload that the hub's clients accept, in bytes.
        get_running: Returns the running hub, or raises.
        get_unchecked: Returns the running hub, or None.

    Attributes:
        max_message_bytes: Largest payload that the hub's clients accept, in bytes.
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

    def attach(self, bridge: Bridge) -> None:
        """Attach a bridge; it calls this itself when it is ready.

        From then on, publishing methods reach the clients of all hubs, unless ``local_only`` is
        given. The hub asks the bridge for the channels that have subscribers here.

        Raises:
            BridgeAttachedError: The hub has a bridge already.
        """
        self._get_running().relay.attach(bridge)

    def detach(self) -> None:
        """Detach the bridge; the hub goes on alone. Harmless without a bridge and after the end."""
        running = self._get_unchecked()
        if running is not None:
            running.check_process()
            running.relay.detach()

    @property
    def bridged_channels(self) -> Collection[str]:
        """The channels that the bridge must deliver now, for a bridge that connects again.

        Empty before the hub is entered.
        """
        running = self._get_unchecked()
        return () if running is None else running.relay.channels

    def deliver(self, channel: str, payload: bytes) -> None:
        """Deliver a message that another hub has published to this hub's own clients.

        Call it with the messages of one publisher and channel in order. The message keeps its
        timestamp; a message without one is stamped.

        Args:
            channel: The channel; `BROADCAST` for a message to every connection.
            payload: The message, one JSON object in UTF-8.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The process id in the channel or the message is not allowed.
            MessageDecodeError: The payload is not a message.
            MessageTooLargeError: The message exceeds ``max_message_bytes``.
        """
        self._get_running().publishing.deliver(channel, payload)

    def publish(self, channel: str, message: Message) -> bytes:
        """Publish to this hub's own clients, for a bridge that confirms what it sends.

        Returns:
            The payload for the other hubs, the same bytes that the clients here receive.

        Raises:
            WSHubError: As `Hub.publish` does.
        """
        return self._get_running().publishing.publish_here(channel, message)

    def broadcast(self, message: Message) -> bytes:
        """Broadcast to this hub's own clients; see `publish`.

        Raises:
            WSHubError: As `Hub.broadcast` does.
        """
        return self._get_running().publishing.broadcast_here(message)

    def spawn_callback(self, name: str, callback: Callable[..., Any], *args: object) -> None:
        """Call a function of the application, plain or async.

        An exception is logged and counted, and does not reach the bridge.

        Args:
            name: The callback's name, for the log.
            callback: The function; an async one runs in a task that the hub ends when it closes.
            *args: Its arguments.
        """
        self._get_running().callbacks.spawn(name, callback, *args)
