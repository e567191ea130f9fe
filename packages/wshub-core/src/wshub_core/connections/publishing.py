"""Publishing: the path of messages from applications, clients and other hubs to the delivery."""

import contextlib
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from wshub_core.bridge.relay import Relay
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.delivery import Delivery
from wshub_core.loop.callbacks import Callbacks
from wshub_core.protocol.counters import Counters
from wshub_core.protocol.forwarded import normalize_forwarded
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.protocol.registry import Registry
from wshub_core.values.channels import BROADCAST, validate_channel, validate_process_id
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import HubClosedError, MessageDecodeError, MessageTooLargeError
from wshub_core.values.messages import Message, decode_message
from wshub_core.values.preparation import encode_stamped, prepare_message

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
        callbacks: Callbacks,
        counters: Counters,
        listeners: Sequence[PublishListener],
    ) -> None:
        self._max_message_bytes = config.max_message_bytes
        self._loop = loop
        self._thread_id = threading.get_ident()
        self._registry = registry
        self._delivery = delivery
        self._relay = relay
        self._callbacks = callbacks
        self._counters = counters
        self._listeners = listeners

    def publish(self, channel: str, message: Message, *, local_only: bool = False) -> None:
        """Publish to a channel; see `Hub.publish`. Safe from any thread."""
        stamped, prepared = self._prepare(message, channel, local_only)
        self._call_on_loop(lambda: self._publish(channel, stamped, prepared, local_only))

    def broadcast(self, message: Message, *, local_only: bool = False) -> None:
        """Publish to every connection; see `Hub.broadcast`. Safe from any thread."""
        _, prepared = self._prepare(message, None, local_only)
        self._call_on_loop(lambda: self._broadcast(prepared, local_only))

    def publish_local(self, channel: str, message: Message) -> bytes:
        """Publish to this hub's connections; return the payload for the other hubs."""
        stamped, prepared = self._prepare(message, channel, False)
        self._publish(channel, stamped, prepared, local_only=True)
        return prepared.payload

    def broadcast_local(self, message: Message) -> bytes:
        """Broadcast to this hub's connections; return the payload for the other hubs."""
        # Not `local_only`: the payload goes to other hubs, so the rules for other hubs apply.
        _, prepared = self._prepare(message, None, False)
        self._broadcast(prepared, local_only=True)
        return prepared.payload

    def deliver(self, channel: str, payload: bytes) -> None:
        """Deliver a message of another hub; see `BridgePort.deliver`."""
        normalized = normalize_forwarded(payload, channel, datetime.now(UTC))
        if len(normalized) > self._max_message_bytes:
            raise MessageTooLargeError(len(normalized), self._max_message_bytes)
        self._counters.messages += 1
        prepared = PreparedMessage(normalized)
        if channel == BROADCAST:
            self._delivery.fan_out(self._registry.connections, prepared)
            return
        if self._listeners:
            # JSON allows numbers that exceed a float. They are delivered to clients, but cannot be
            # decoded here.
            with contextlib.suppress(MessageDecodeError):
                self._call_listeners(channel, decode_message(normalized))
        self._delivery.fan_out(self._registry.subscribers_of(channel), prepared)

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
        self._delivery.send_one(connection, PreparedMessage(payload))
        return True

    def _prepare(
        self, message: Message, channel: str | None, local_only: bool
    ) -> tuple[Message, PreparedMessage]:
        stamped, payload = prepare_message(
            message,
            channel,
            max_bytes=self._max_message_bytes,
            reserved_bytes=0 if local_only else self._relay.reserved_bytes,
        )
        if channel is None and message.channel and not local_only and self._relay.has_bridge:
            # Other hubs drop a broadcast whose message names an invalid channel.
            validate_channel(message.channel)
        return stamped, PreparedMessage(payload)

    def _publish(
        self, channel: str, message: Message, prepared: PreparedMessage, local_only: bool
    ) -> None:
        self._counters.messages += 1
        # Before the delivery: connections that a listener subscribes receive this message too.
        self._call_listeners(channel, message)
        self._delivery.fan_out(self._registry.subscribers_of(channel), prepared)
        if not local_only:
            self._relay.forward(channel, prepared.payload)

    def _broadcast(self, prepared: PreparedMessage, local_only: bool) -> None:
        self._counters.messages += 1
        self._delivery.fan_out(self._registry.connections, prepared)
        if not local_only:
            self._relay.forward(BROADCAST, prepared.payload)

    def _call_listeners(self, channel: str, message: Message) -> None:
        for listener in self._listeners:
            self._callbacks.call_plain("publish listener", None, listener, channel, message)

    def _call_on_loop(self, call: Callable[[], None]) -> None:
        # A call on the hub's thread is not deferred, so its errors and its order are immediate.
        if threading.get_ident() == self._thread_id:
            call()
            return
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError as exc:  # the event loop was closed before the hub
            raise HubClosedError from exc
