"""What a hub says about itself in numbers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HubStats:
    """What there is now, and what has been done since the hub was entered.

    Attributes:
        clients: Connections now.
        channels: Channels that have subscribers now.
        subscribers: Subscriptions now: a connection counts once for each of its channels.
        connections: Connections that were accepted.
        refused_handshakes: Handshakes that were refused, for whatever reason.
        messages: Messages that were broadcast or published, here or on a hub that a bridge leads
            to.
        deliveries: Messages that were handed to the network, once for each connection.
        delivered_bytes: The bytes of these, as WebSocket frames.
        dropped_messages: Messages that were dropped because an outbox was full.
        evictions: Connections that were ended because they read too slowly or not at all.
        ignored_frames: Frames of clients that could not be understood.
        callback_errors: Exceptions that came out of the application's callbacks.
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
