"""Clients of a wshub hub that reconnect by themselves and restore their subscriptions.

`ReconnectingClient` is for asyncio, `BlockingClient` for scripts and threads. The client for
browsers is one file without dependencies; its path is `BROWSER_MODULE`.
"""

from wshub_client.blocking import BlockingClient
from wshub_client.browser import BROWSER_MODULE
from wshub_client.client import ReconnectingClient
from wshub_client.errors import (
    ClientClosedError,
    ClientError,
    ClosedError,
    DialError,
    DroppedError,
    LostError,
    NotConnectedError,
    PresenceRefusedError,
    PublishRefusedError,
    RefusedError,
    RetriesExhaustedError,
    SubscriptionRefusedError,
)
from wshub_client.inbox import InboxOverflow
from wshub_client.publisher import ProcessPublisher
from wshub_client.reconnect import ConnectionState
from wshub_client.recovery import Gap
from wshub_client.send_queue import QueueLimits
from wshub_client.settings import ClientOptions, Token

__all__ = [
    "BROWSER_MODULE",
    "BlockingClient",
    "ClientClosedError",
    "ClientError",
    "ClientOptions",
    "ClosedError",
    "ConnectionState",
    "DialError",
    "DroppedError",
    "Gap",
    "InboxOverflow",
    "LostError",
    "NotConnectedError",
    "PresenceRefusedError",
    "ProcessPublisher",
    "PublishRefusedError",
    "QueueLimits",
    "ReconnectingClient",
    "RefusedError",
    "RetriesExhaustedError",
    "SubscriptionRefusedError",
    "Token",
]
