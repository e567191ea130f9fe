"""The statistics of a hub."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HubStats:
    """The statistics of a hub.

    The first three attributes are current numbers. The others are totals since the hub was started.

    Attributes:
        clients: Number of open connections.
        channels: Number of channels with subscribers.
        subscribers: Number of subscriptions. A connection counts once for each of its channels.
        connections: Total of accepted connections.
        refused_handshakes: Total of refused handshakes, for any reason.
        messages: Total of published and broadcast messages, including those that a bridge delivered
            from other hubs.
        deliveries: Total of messages passed to the network, counted once for each connection.
        delivered_bytes: Total size of these deliveries as WebSocket frames, in bytes; of compressed
            messages, the compressed size.
        dropped_messages: Total of messages that were dropped because an outbox was full.
        evictions: Total of connections that were closed because the client read too slowly or not
            at all.
        ignored_frames: Total of client frames that were ignored because they are no valid messages.
        callback_errors: Total of exceptions raised by the application's callbacks.
    """

    clients: int
    channels: int
    subscribers: int
    connections: int
    refused_handshakes: int
    messages: int
    deliveries: int
    delivered_bytes: int
    dropped_messages: int
    evictions: int
    ignored_frames: int
    callback_errors: int
