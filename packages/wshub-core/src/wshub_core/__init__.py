"""A WebSocket hub: named channels, broadcast and live process output, in asyncio.

Start with `Hub`; the settings are in `HubConfig`, what is sent is a `Message`.
"""

from wshub_core.edges.page import LivePage
from wshub_core.edges.serve import Server
from wshub_core.runtime.connection import Connection
from wshub_core.runtime.hub import Hub, HubStats
from wshub_core.runtime.process import run_process
from wshub_core.values.channels import process_channel, validate_channel, validate_process_id
from wshub_core.values.closing import CloseCode
from wshub_core.values.config import ChannelAuthorizer, HubConfig
from wshub_core.values.errors import (
    HubClosedError,
    HubNotStartedError,
    InvalidChannelError,
    InvalidCloseError,
    InvalidConfigError,
    InvalidProcessIDError,
    MessageDecodeError,
    MessageEncodeError,
    MessageTooLargeError,
    ProcessStartError,
    ServeError,
    SubscriptionDeniedError,
    SubscriptionLimitError,
    WSHubError,
)
from wshub_core.values.http import Request, Response
from wshub_core.values.messages import Message, MessageType, decode_message, encode_message

__version__ = "0.1.0"

__all__ = [
    "ChannelAuthorizer",
    "CloseCode",
    "Connection",
    "Hub",
    "HubClosedError",
    "HubConfig",
    "HubNotStartedError",
    "HubStats",
    "InvalidChannelError",
    "InvalidCloseError",
    "InvalidConfigError",
    "InvalidProcessIDError",
    "LivePage",
    "Message",
    "MessageDecodeError",
    "MessageEncodeError",
    "MessageTooLargeError",
    "MessageType",
    "ProcessStartError",
    "Request",
    "Response",
    "ServeError",
    "Server",
    "SubscriptionDeniedError",
    "SubscriptionLimitError",
    "WSHubError",
    "decode_message",
    "encode_message",
    "process_channel",
    "run_process",
    "validate_channel",
    "validate_process_id",
]
