"""Publishing: the path of messages from applications, clients and other hubs to the delivery."""

import contextlib
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from wshub_core.bridge.relay import Relay
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.delivery import Delivery
from wshub_core.connections.spans import make_spans
from wshub_core.history.histories import Histories
from wshub_core.history.replica import StoredMessage
from wshub_core.loop.callbacks import Callbacks
from wshub_core.protocol.counters import Counters
from wshub_core.protocol.forwarded import normalize_forwarded
from wshub_core.protocol.prepared import KeptMessage, PreparedMessage
from wshub_core.protocol.registry import Registry
from wshub_core.values.channels import BROADCAST, validate_channel, validate_process_id
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import HubClosedError, MessageDecodeError, MessageTooLargeError
from wshub_core.values.history import MAX_OFFSET, POSITION_BYTES, HistoryLimits, is_epoch
from wshub_core.values.messages import Message, MessageType, Reply, decode_message
from wshub_core.values.preparation import encode_stamped, prepare_message

_CLEARED = b'"history_cleared"'

PublishListener: TypeAlias = Callable[[str, Message], None]
"""A function that gets the channel and the message of each publish, on the hub's event loop. It
must not block."""


class Publishing:
    """Validates, stamps and encodes messages, and queues them for the delivery and the bridge.

    Args:
        config: The hub's settings.
        loop: The event loop, which runs in the thread that creates this object.
        registry: The hub's connections and their subscriptions.
        delivery: Delivers messages to connections.
        relay: Forwards messages to the bridge.
        histories: The histories of the hub.
        callbacks: Calls of the application's callbacks.
        counters: The hub's counters.
        listeners: Called with every message of a channel; the list may grow.
    """

    def __init__(
        self,
        config: HubConfig,
        loop: AbstractEventLoop,
        registry: Registry[ServerConnection],
        delivery: Delivery,
        relay: Relay,
        histories: Histories,
        callbacks: Callbacks,
        counters: Counters,
        listeners: Sequence[PublishListener],
    ) -> None:
        self._max_message_bytes = config.max_message_bytes
        self._spans = make_spans(config)
        # A choice made once: most hubs have no spans, and each publish takes this way.
        self._prepare = self._encode if self._spans is None else self._encode_in_span
        self._loop = loop
        self._thread_id = threading.get_ident()
        self._registry = registry
        self._delivery = delivery
        self._relay = relay
        self._callbacks = callbacks
        self._counters = counters
        self._listeners = listeners
        self._histories = histories

    def publish(self, channel: str, message: Message, *, local_only: bool = False) -> None:
        """Publish to a channel; see `Hub.publish`. Safe from any thread."""
        limits = self._histories.limits_of(channel)
        stamped, payload = self._prepare(message, channel, local_only, limits)
        if threading.get_ident() == self._thread_id:
            self._publish(channel, stamped, payload, limits, local_only)
        else:
            self._call_soon(self._publish, channel, stamped, payload, limits, local_only)

    def broadcast(self, message: Message, *, local_only: bool = False) -> None:
        """Publish to every connection; see `Hub.broadcast`. Safe from any thread."""
        _, payload = self._prepare(message, None, local_only, None)
        if threading.get_ident() == self._thread_id:
            self._broadcast(payload, local_only)
        else:
            self._call_soon(self._broadcast, payload, local_only)

    def publish_local(self, channel: str, message: Message) -> bytes:
        """Publish to this hub's connections; return the payload for the other hubs."""
        limits = self._histories.limits_of(channel)
        stamped, payload = self._prepare(message, channel, False, limits)
        if (shared := self._histories.shared) is not None and limits is not None:
            shared.note_own(channel, payload)
            self._call_listeners(channel, stamped)
        else:
            self._publish(channel, stamped, payload, limits, local_only=True)
        return payload

    def broadcast_local(self, message: Message) -> bytes:
        """Broadcast to this hub's connections; return the payload for the other hubs."""
        # Not `local_only`: the payload goes to other hubs, so the rules for other hubs apply.
        _, payload = self._prepare(message, None, False, None)
        self._broadcast(payload, local_only=True)
        return payload

    def deliver(self, channel: str, payload: bytes) -> None:
        """Deliver a message of another hub; see `BridgePort.deliver`."""
        normalized = self._normalize(channel, payload)
        if channel == BROADCAST:
            self._counters.messages += 1
            self._delivery.fan_out(self._registry.connections, PreparedMessage(normalized))
            return
        limits = self._histories.limits_of(channel)
        if limits is None or not self._fits_history(normalized):
            self.deliver_positioned(channel, PreparedMessage(normalized), False)
        elif (shared := self._histories.shared) is not None:
            # From a publisher that knows no history, or a notice of a hub that has cleared it.
            if (epoch := _find_cleared_epoch(normalized)) is not None:
                shared.note_cleared(channel, epoch)
            self.deliver_positioned(channel, PreparedMessage(normalized), False)
        else:
            self._decode_for_listeners(channel, normalized)
            self._histories.form.publish(channel, normalized, limits)

    def deliver_stored(self, channel: str, message: StoredMessage) -> None:
        """Deliver a message of a shared history; see `BridgePort.deliver_stored`."""
        validate_channel(channel)
        if not is_epoch(message.epoch) or not 0 < message.offset <= MAX_OFFSET:
            raise MessageDecodeError("a stored message has an invalid position")
        if self._histories.shared is not None:
            self._histories.shared.take(channel, message)

    def deliver_unstored(self, channel: str, payload: bytes) -> None:
        """Deliver a message of this hub that a shared history has not taken."""
        if self._histories.shared is not None:
            self._histories.shared.note_unstored(channel, payload)
        self.deliver_positioned(channel, PreparedMessage(payload), True)

    async def clear_history(self, channel: str, limits: HistoryLimits) -> None:
        """Clear the history of a channel; see `Hub.clear_history`."""
        epoch = await self._histories.form.clear(channel, limits)
        if epoch is not None:
            message = Message(type=MessageType.HISTORY_CLEARED, data={"epoch": epoch})
            _, payload = encode_stamped(message, channel, self._max_message_bytes)
            prepared = KeptMessage(payload)
            self._delivery.fan_out(self._registry.subscribers_of(channel), prepared)
            if self._histories.shared is not None:
                self._relay.forward(channel, payload)

    def send_position(
        self, connection: ServerConnection, channel: str, epoch: str, offset: int
    ) -> None:
        """Tell one connection the newest position of a channel."""
        self.send(connection, _position_message(channel, epoch, offset))

    def send(self, connection: ServerConnection, message: Message) -> bool:
        """Send to one connection; see `Connection.send`."""
        if not isinstance(message, Message):
            raise TypeError(
                f"connection.send(message) takes a Message, not {type(message).__qualname__}: "
                'use Message(type="event", data=…) to send plain data'
            )
        if message.process_id:
            validate_process_id(message.process_id)
        _, payload = encode_stamped(message, message.channel, self._max_message_bytes)
        # After the checks: an invalid message raises an error for an ended connection too.
        if connection not in self._registry:
            return False
        # A client waits for the answer to a request, and a notice makes it ask again.
        is_kept = isinstance(message, Reply) or message.type == MessageType.HISTORY_POSITION
        prepared = KeptMessage(payload) if is_kept else PreparedMessage(payload)
        self._delivery.send_one(connection, prepared)
        return True

    def encode_for_user(self, message: Message) -> bytes:
        """Validate, stamp and encode a message for the connections of one user."""
        _, payload = self._prepare(message, None, False, None)
        return payload

    def send_encoded(self, connections: Collection[ServerConnection], payload: bytes) -> None:
        """Send an encoded message to some connections."""
        self._delivery.fan_out(connections, PreparedMessage(payload))

    def deliver_to(self, connections: Collection[ServerConnection], payload: bytes) -> None:
        """Deliver a message of another hub to some connections."""
        self.send_encoded(connections, self._normalize(BROADCAST, payload))

    def _normalize(self, channel: str, payload: bytes) -> bytes:
        normalized = normalize_forwarded(payload, channel, datetime.now(UTC))
        if len(normalized) > self._max_message_bytes:
            raise MessageTooLargeError(len(normalized), self._max_message_bytes)
        return normalized

    def _encode_in_span(
        self,
        message: Message,
        channel: str | None,
        local_only: bool,
        limits: HistoryLimits | None,
    ) -> tuple[Message, bytes]:
        # A value that is no message gets its error from `_encode`.
        if self._spans is None or not isinstance(message, Message):
            return self._encode(message, channel, local_only, limits)
        with self._spans.publish(message, channel) as traced:
            try:
                return self._encode(traced, channel, local_only, limits)
            except MessageTooLargeError:
                if traced is message:
                    raise
                # A trace must not decide which messages can be published.
                return self._encode(message, channel, local_only, limits)

    def _encode(
        self,
        message: Message,
        channel: str | None,
        local_only: bool,
        limits: HistoryLimits | None,
    ) -> tuple[Message, bytes]:
        reserved_bytes = 0 if local_only else self._relay.reserved_bytes
        if limits is not None:
            reserved_bytes += POSITION_BYTES
        stamped, payload = prepare_message(
            message, channel, max_bytes=self._max_message_bytes, reserved_bytes=reserved_bytes
        )
        if channel is None and message.channel and not local_only and self._relay.has_bridge:
            # Other hubs drop a broadcast whose message names an invalid channel.
            validate_channel(message.channel)
        return stamped, payload

    def _publish(
        self,
        channel: str,
        message: Message,
        payload: bytes,
        limits: HistoryLimits | None,
        local_only: bool,
    ) -> None:
        # Before the delivery: connections that a listener subscribes receive this message too.
        if self._listeners:
            self._call_listeners(channel, message)
        if limits is None or (local_only and self._histories.shared is not None):
            self._counters.messages += 1
            prepared = PreparedMessage(payload)
            self._delivery.fan_out(self._registry.subscribers_of(channel), prepared)
        else:
            self._histories.form.publish(channel, payload, limits)
            if self._histories.shared is not None:
                return  # other hubs get the message from the store
        if not local_only:
            self._relay.forward(channel, payload)

    def deliver_positioned(
        self, channel: str, prepared: PreparedMessage, is_announced: bool
    ) -> None:
        """Deliver a message to subscribers; call the listeners if they have not had it."""
        self._counters.messages += 1
        if not is_announced:
            self._decode_for_listeners(channel, prepared.payload)
        self._delivery.fan_out(self._registry.subscribers_of(channel), prepared)

    def notify_position(self, channel: str, epoch: str, offset: int) -> None:
        """Tell all subscribers the newest position of a channel."""
        message = _position_message(channel, epoch, offset)
        _, payload = encode_stamped(message, channel, self._max_message_bytes)
        self._delivery.fan_out(self._registry.subscribers_of(channel), KeptMessage(payload))

    def _fits_history(self, payload: bytes) -> bool:
        return len(payload) + POSITION_BYTES <= self._max_message_bytes

    def _decode_for_listeners(self, channel: str, payload: bytes) -> None:
        if self._listeners:
            # JSON allows numbers that exceed a float. They are delivered to clients, but cannot be
            # decoded here.
            with contextlib.suppress(MessageDecodeError):
                self._call_listeners(channel, decode_message(payload))

    def _broadcast(self, payload: bytes, local_only: bool) -> None:
        self._counters.messages += 1
        self._delivery.fan_out(self._registry.connections, PreparedMessage(payload))
        if not local_only:
            self._relay.forward(BROADCAST, payload)

    def _call_listeners(self, channel: str, message: Message) -> None:
        for listener in self._listeners:
            self._callbacks.call_plain("publish listener", None, listener, channel, message)

    def _call_soon(self, call: Callable[..., None], *args: object) -> None:
        """Call a method in the hub's thread, from another thread."""
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError as exc:  # the event loop was closed before the hub
            raise HubClosedError from exc


def _find_cleared_epoch(payload: bytes) -> str | None:
    """Return the new epoch if a message is the notice of a hub that has cleared a history."""
    if _CLEARED in payload:
        # A message that cannot be decoded here is none.
        with contextlib.suppress(MessageDecodeError):
            match decode_message(payload):
                case Message(type=MessageType.HISTORY_CLEARED, data={"epoch": str(epoch)}):
                    return epoch if is_epoch(epoch) else None
    return None


def _position_message(channel: str, epoch: str, offset: int) -> Message:
    data = {"epoch": epoch, "offset": offset}
    return Message(type=MessageType.HISTORY_POSITION, channel=channel, data=data)
