"""A WebSocket hub: named channels, broadcast and live process output, in asyncio.

Start with `Hub`. `HubConfig` holds its settings, and `Message` is the unit that it sends.
"""

from wshub_core.admin.app import AdminApp
from wshub_core.bridge.history_store import HistoryStore, StoredPage
from wshub_core.bridge.presence_store import (
    PresenceOutcome,
    PresenceStore,
    PresenceUpdate,
    StoredMember,
    StoredPresence,
)
from wshub_core.bridge.protocol import Bridge, MeasuredBridge
from wshub_core.bridge.state import BridgeState
from wshub_core.bridge_port import BridgePort
from wshub_core.hub import Hub
from wshub_core.loop.clock import Clock, Timer
from wshub_core.page.page import LivePage
from wshub_core.process.runner import run_process
from wshub_core.protocol.backoff import Backoff
from wshub_core.transports.server import Server
from wshub_core.values.auth import (
    Authenticator,
    AuthResult,
    TokenAuthenticator,
    normalize_auth_result,
)
from wshub_core.values.channel_patterns import ChannelPatterns
from wshub_core.values.channels import (
    BROADCAST,
    process_channel,
    validate_channel,
    validate_process_id,
)
from wshub_core.values.closing import CloseCode, Disconnect, DisconnectCause
from wshub_core.values.compression import Compression
from wshub_core.values.config import (
    ChannelAuthorizer,
    HubConfig,
    PresenceAuthorizer,
    PublishAuthorizer,
)
from wshub_core.values.connection import Connection
from wshub_core.values.errors import (
    AuthenticatorError,
    AuthError,
    AuthExpiredError,
    BridgeAttachedError,
    BridgeUnavailableError,
    ForkedProcessError,
    HistoryUnavailableError,
    HubAlreadyStartedError,
    HubClosedError,
    HubNotStartedError,
    InvalidChannelError,
    InvalidClaimsError,
    InvalidCloseError,
    InvalidConfigError,
    InvalidHistoryRequestError,
    InvalidProcessIDError,
    MessageDecodeError,
    MessageEncodeError,
    MessageTooLargeError,
    MissingUserIDError,
    NoPresenceError,
    PresenceDeniedError,
    PresenceUnavailableError,
    ProcessStartError,
    PublishDeniedError,
    ReservedTypeError,
    ServeError,
    SubscriptionDeniedError,
    SubscriptionLimitError,
    TooManyAttemptsError,
    WSHubError,
)
from wshub_core.values.history import HistoryLimits, HistoryPage, Position
from wshub_core.values.http import Request, Response
from wshub_core.values.measurements import (
    BridgeStats,
    CallbackStats,
    Distribution,
    Measurements,
)
from wshub_core.values.message_factories import (
    channel_event_message,
    error_message,
    event_message,
    process_output_message,
    process_status_message,
)
from wshub_core.values.messages import (
    JSON,
    Message,
    MessageType,
    Reply,
    decode_message,
    encode_message,
)
from wshub_core.values.preparation import prepare_message
from wshub_core.values.presence import Member, Presence, PresenceCount, PresenceSettings
from wshub_core.values.stats import HubStats
from wshub_core.values.subprotocols import BEARER_SUBPROTOCOL, V1_SUBPROTOCOL, offered_subprotocols

__version__ = "0.1.0"

__all__ = [
    "BEARER_SUBPROTOCOL",
    "BROADCAST",
    "JSON",
    "V1_SUBPROTOCOL",
    "AdminApp",
    "AuthError",
    "AuthExpiredError",
    "AuthResult",
    "Authenticator",
    "AuthenticatorError",
    "Backoff",
    "Bridge",
    "BridgeAttachedError",
    "BridgePort",
    "BridgeState",
    "BridgeStats",
    "BridgeUnavailableError",
    "CallbackStats",
    "ChannelAuthorizer",
    "ChannelPatterns",
    "Clock",
    "CloseCode",
    "Compression",
    "Connection",
    "Disconnect",
    "DisconnectCause",
    "Distribution",
    "ForkedProcessError",
    "HistoryLimits",
    "HistoryPage",
    "HistoryStore",
    "HistoryUnavailableError",
    "Hub",
    "HubAlreadyStartedError",
    "HubClosedError",
    "HubConfig",
    "HubNotStartedError",
    "HubStats",
    "InvalidChannelError",
    "InvalidClaimsError",
    "InvalidCloseError",
    "InvalidConfigError",
    "InvalidHistoryRequestError",
    "InvalidProcessIDError",
    "LivePage",
    "MeasuredBridge",
    "Measurements",
    "Member",
    "Message",
    "MessageDecodeError",
    "MessageEncodeError",
    "MessageTooLargeError",
    "MessageType",
    "MissingUserIDError",
    "NoPresenceError",
    "Position",
    "Presence",
    "PresenceAuthorizer",
    "PresenceCount",
    "PresenceDeniedError",
    "PresenceOutcome",
    "PresenceSettings",
    "PresenceStore",
    "PresenceUnavailableError",
    "PresenceUpdate",
    "ProcessStartError",
    "PublishAuthorizer",
    "PublishDeniedError",
    "Reply",
    "Request",
    "ReservedTypeError",
    "Response",
    "ServeError",
    "Server",
    "StoredMember",
    "StoredPage",
    "StoredPresence",
    "SubscriptionDeniedError",
    "SubscriptionLimitError",
    "Timer",
    "TokenAuthenticator",
    "TooManyAttemptsError",
    "WSHubError",
    "channel_event_message",
    "decode_message",
    "encode_message",
    "error_message",
    "event_message",
    "normalize_auth_result",
    "offered_subprotocols",
    "prepare_message",
    "process_channel",
    "process_output_message",
    "process_status_message",
    "run_process",
    "validate_channel",
    "validate_process_id",
]
