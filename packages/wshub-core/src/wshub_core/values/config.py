"""The settings of a hub."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from wshub_core.values.auth import Authenticator, AuthResult
from wshub_core.values.channel_patterns import ChannelPatterns
from wshub_core.values.closing import Disconnect
from wshub_core.values.compression import Compression
from wshub_core.values.connection import Connection
from wshub_core.values.errors import InvalidConfigError
from wshub_core.values.history import HistoryLimits, validate_history
from wshub_core.values.http import Request
from wshub_core.values.messages import JSON, Message
from wshub_core.values.origins import normalize_origin
from wshub_core.values.presence import PresenceSettings, validate_presence
from wshub_core.values.trusted_proxies import TrustedProxies

Overflow: TypeAlias = Literal["close", "drop_oldest", "drop_newest"]
"""The policy for a message that does not fit into the outbox of a connection."""

_LONGEST_FRAME_HEADER = 10
"""Maximum length of the header of a server's frame, in bytes (RFC 6455 section 5.2)."""


# These types are callables instead of protocols, because type checkers infer the parameter types of
# lambdas only for callables.

ChannelAuthorizer: TypeAlias = Callable[[Connection, str], bool | Awaitable[bool]]
"""A function that returns whether a connection may subscribe to a channel; plain or async.

The hub calls it once for each subscription, and only with valid channel names. An authorizer that
raises denies the subscription."""

PublishAuthorizer: TypeAlias = Callable[[Connection, str], bool | Awaitable[bool]]
"""A function that returns whether a connection may publish to a channel; plain or async.

The hub calls it once for each message, and only with valid channel names. An authorizer that raises
denies the message."""

PresenceAuthorizer: TypeAlias = Callable[[Connection, str], bool | Awaitable[bool]]
"""A function that returns whether a client may read the presence of a channel; plain or async.

The hub calls it once for each request, and only for channels with presence. An authorizer that
raises denies the request."""


_CALLBACKS = (
    "authenticator",
    "channel_authorizer",
    "check_origin",
    "on_auth_failure",
    "on_connect",
    "on_disconnect",
    "on_message",
    "presence_authorizer",
    "presence_info",
    "publish_authorizer",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class HubConfig:
    """The settings of a hub. Durations are in seconds, sizes in bytes.

    Callbacks are plain or async functions. The hub calls the callbacks of one connection one after
    the other: ``on_connect``, then ``on_message`` for each message in order, and ``on_disconnect``
    last. While an async callback runs, further messages of the connection wait, up to about 64 KiB.
    Other connections are not affected.

    An exception in a callback is logged and counted, and has no other effect. `KeyboardInterrupt`
    and `SystemExit` end the program as usual. A callback that still runs ``close_timeout`` seconds
    after the end of its connection is cancelled.

    The authenticator and the callbacks of one connection share a context: a context variable that
    one of them sets is visible to the later callbacks of the same connection, and to no other.

    Attributes:
        max_message_bytes: Maximum size of a message, in both directions. Clients of go-ws accept
            up to 64 KiB.
        max_subscriptions: Maximum number of subscriptions of a connection.
        max_connections: Maximum number of connections; None for no limit. Further clients get
            status 503.
        max_outbox_bytes: Maximum size of the data that waits for a connection, in its outbox and in
            the buffer of its transport together. The outbox counts uncompressed sizes. 1 MiB is
            enough for the bursts of an ordinary page, and limits the memory of 1,000 stalled
            clients to about 1 GiB.
        overflow: The policy for a message that does not fit into the outbox. ``"close"`` closes the
            connection with code 1013, ``"drop_oldest"`` drops the oldest messages, and
            ``"drop_newest"`` drops the new message. The hub and the connection count the dropped
            messages. Answers and the pages of a history are never dropped: without room for one,
            the connection is closed with code 1013.
        heartbeat_interval: Time between two pings to a connection.
        pong_timeout: Time without a byte from the client after which its connection is closed. If
            the value is not above ``heartbeat_interval``, the hub uses twice the interval instead.
        write_timeout: Time without a byte accepted by the client, while data waits for it, after
            which its connection is aborted.
        open_timeout: Maximum duration of the opening handshake, and of a call of the
            authenticator.
        close_timeout: Maximum duration of the closing handshake, and the time for which callbacks
            may still run when the hub is closed.
        compression: The compression of messages for clients that support it; None for no
            compression. Only the hub's own server uses the setting. An ASGI server compresses by
            itself.
        history: The size of the history of channels, by name or by a prefix and ``*``, such as
            ``{"process:*": HistoryLimits()}``; None for no history. The first pattern that fits a
            channel counts. Other channels have no history.
        max_history_bytes: Maximum size of all histories in the memory of this hub. Above it, the
            history that has grown least recently is dropped.
        presence: The channels whose members the hub keeps, by name or by a prefix and ``*``, such
            as ``{"room:*": PresenceSettings()}``; None for no presence. The first pattern that fits
            a channel counts. Other channels have no presence.
        presence_info: Function that returns the ``info`` of a new member from its connection and
            the channel: any JSON value of at most 1,024 bytes. It must not be async. If it raises
            or returns another value, the member has no ``info``.
        presence_authorizer: The authorizer of clients that ask for the members of a channel. With
            None, the subscribers of the channel may ask.
        allowed_origins: The origins whose pages may connect, such as ``https://app.example``, or
            ``"*"`` for all origins. None allows only the server's own pages. Upper case, a default
            port and a slash at the end make no difference.
        require_origin: Whether requests with neither an ``Origin`` nor a ``Sec-Fetch-Site`` header
            are refused. Programs other than browsers do not send the headers.
        trusted_proxies: The networks of proxies whose header ``X-Forwarded-For`` names the client,
            such as ``10.0.0.0/8``; ``unix`` stands for the peers of unix sockets. Only the hub's
            own server uses the setting. An ASGI server has a setting of its own.
        check_origin: Function that returns whether the origin of a request is allowed. It replaces
            ``allowed_origins`` and ``require_origin``. If it raises, the request is refused.
        authenticator: The authenticator of clients; None to accept every client.
        channel_authorizer: The authorizer of subscriptions; None to allow all subscriptions.
        publish_authorizer: The authorizer of messages that clients publish. With None, clients
            cannot publish, and the hub passes such messages to ``on_message``, as all others.
        on_connect: Called with each new connection.
        on_message: Called with each message of a client that the hub does not process itself.
        on_disconnect: Called with each connection that has ended, and a summary of its end.
        on_auth_failure: Called with each request whose authentication failed, and the result.
        tracer_provider: The ``TracerProvider`` of OpenTelemetry that creates the spans of messages
            with a trace context; None for no spans.

    Raises:
        InvalidConfigError: A setting has an invalid value.
    """

    max_message_bytes: int = 65_536
    max_subscriptions: int = 1_024
    max_connections: int | None = None
    max_outbox_bytes: int = 1_048_576
    overflow: Overflow = "close"
    heartbeat_interval: float = 30.0
    pong_timeout: float = 60.0
    write_timeout: float = 10.0
    open_timeout: float = 10.0
    close_timeout: float = 10.0
    compression: Compression | None = None
    history: Mapping[str, HistoryLimits | None] = field(default_factory=dict)
    max_history_bytes: int = 268_435_456
    presence: Mapping[str, PresenceSettings | None] = field(default_factory=dict)
    presence_info: Callable[[Connection, str], JSON] | None = None
    presence_authorizer: "PresenceAuthorizer | None" = None
    allowed_origins: Collection[str] | None = None
    require_origin: bool = False
    trusted_proxies: Collection[str] = ()
    check_origin: Callable[[Request], bool] | None = None
    authenticator: Authenticator | None = None
    channel_authorizer: "ChannelAuthorizer | None" = None
    publish_authorizer: "PublishAuthorizer | None" = None
    on_connect: "Callable[[Connection], Awaitable[object] | object] | None" = None
    on_message: "Callable[[Connection, Message], Awaitable[object] | object] | None" = None
    on_disconnect: "Callable[[Connection, Disconnect], Awaitable[object] | object] | None" = None
    on_auth_failure: Callable[[Request, AuthResult], Awaitable[object] | object] | None = None
    # A type of an optional package: annotations of settings must be readable without it.
    tracer_provider: Any = None

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            # Every number among the settings is a size, a duration or a limit, and must be above 0.
            # "not … > 0" also refuses NaN.
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise InvalidConfigError(f"HubConfig.{setting.name} must be above 0, not {value}")
        if self.overflow not in get_args(Overflow):
            raise InvalidConfigError(
                f"HubConfig.overflow must be one of {', '.join(get_args(Overflow))}"
            )
        for name in _CALLBACKS:
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise InvalidConfigError(
                    f"HubConfig.{name} must be a function, not {type(value).__qualname__}"
                )
        if self.tracer_provider is not None and not hasattr(self.tracer_provider, "get_tracer"):
            raise InvalidConfigError(
                "HubConfig.tracer_provider must be a TracerProvider of OpenTelemetry, "
                f"not {type(self.tracer_provider).__qualname__}"
            )
        if not isinstance(self.compression, Compression | None):
            raise InvalidConfigError(
                "HubConfig.compression must be Compression(…) or None, "
                f"not {type(self.compression).__qualname__}"
            )
        # A string is a collection, too: of characters, which are no origins.
        if isinstance(self.allowed_origins, str):
            raise InvalidConfigError(
                "HubConfig.allowed_origins must be a list of origins, not one string"
            )
        if self.allowed_origins is not None:
            try:
                origins = tuple(map(normalize_origin, self.allowed_origins))
            except ValueError as exc:
                raise InvalidConfigError(f"HubConfig.allowed_origins: {exc}") from None
            # The dataclass is frozen, and this is still its construction.
            object.__setattr__(self, "allowed_origins", origins)
        _validate_proxies(self.trusted_proxies)
        ChannelPatterns("HubConfig.history", self.history)
        validate_history(self.history)
        ChannelPatterns("HubConfig.presence", self.presence)
        validate_presence(self.presence)
        if self.max_outbox_bytes < self.max_message_bytes + _LONGEST_FRAME_HEADER:
            raise InvalidConfigError(
                "HubConfig.max_outbox_bytes must hold at least one message of max_message_bytes "
                f"and the {_LONGEST_FRAME_HEADER} bytes of its frame's header"
            )
        if self.pong_timeout <= self.heartbeat_interval:
            object.__setattr__(self, "pong_timeout", 2 * self.heartbeat_interval)


def _validate_proxies(networks: Collection[str]) -> None:
    if isinstance(networks, str):
        raise InvalidConfigError(
            "HubConfig.trusted_proxies must be a list of networks, not one string"
        )
    try:
        TrustedProxies(networks)
    except ValueError as exc:
        raise InvalidConfigError(f"HubConfig.trusted_proxies: {exc}") from None
