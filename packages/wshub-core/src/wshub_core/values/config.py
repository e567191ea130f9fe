"""The settings of a hub."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

from wshub_core.values.auth import Authenticator, AuthResult
from wshub_core.values.closing import Disconnect
from wshub_core.values.connection import Connection
from wshub_core.values.errors import InvalidConfigError
from wshub_core.values.http import Request
from wshub_core.values.messages import Message
from wshub_core.values.origins import normalize_origin

Overflow: TypeAlias = Literal["close", "drop_oldest", "drop_newest"]
"""What happens to a connection whose outbox is full."""


_LONGEST_FRAME_HEADER = 10
"""Bytes before the payload of a server's frame, at most (RFC 6455 section 5.2)."""


# Callables and not protocols, because type checkers infer the parameters of lambdas only for these.

ChannelAuthorizer: TypeAlias = Callable[[Connection, str], bool | Awaitable[bool]]
"""Decides whether a connection may subscribe to a channel; plain or async.

It is asked once per subscription, with a valid channel name. Raising means no."""

PublishAuthorizer: TypeAlias = Callable[[Connection, str], bool | Awaitable[bool]]
"""Decides whether a connection may publish to a channel; plain or async.

It is asked once per message, with a valid channel name. Raising means no."""


_CALLBACKS = (
    "authenticator",
    "channel_authorizer",
    "check_origin",
    "on_auth_failure",
    "on_connect",
    "on_disconnect",
    "on_message",
    "publish_authorizer",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class HubConfig:
    """The settings of a hub. Durations are seconds, sizes are bytes.

    Callbacks may be plain or async functions. For each connection they are called one after the
    other: ``on_connect``, then ``on_message`` for each message in order, last ``on_disconnect``.
    While an async one runs, further messages of that connection wait, at most some 64 KiB of them;
    other connections notice nothing. Whatever a callback raises is logged and counted, and nothing
    else changes; `KeyboardInterrupt` and `SystemExit` end the program as usual. A callback that
    still runs ``close_timeout`` after its connection has ended is cancelled.

    The callbacks of a connection share one context: what the authenticator or a callback sets in a
    context variable is seen by the later callbacks of that connection, and by no other.

    Attributes:
        max_message_bytes: The most bytes of one message, in both directions. 64 KiB is what
            clients of go-ws accept.
        max_subscriptions: The most channels one connection can subscribe to.
        max_connections: The most connections; who comes then gets 503. None for no limit.
        max_outbox_bytes: The most bytes that may wait for one connection, in the hub and in the
            transport's buffer together. 1 MiB holds the bursts of an ordinary page, and a thousand
            stalled clients fit in a GiB.
        overflow: What happens when a message does not fit any more: ``"close"`` closes the
            connection with 1013, ``"drop_oldest"`` makes room, ``"drop_newest"`` drops the message.
            Drops are counted, for the hub and for the connection.
        heartbeat_interval: How often each connection is pinged.
        pong_timeout: After how long without a byte from the client its connection is closed. If
            it is not above the interval, twice the interval counts.
        write_timeout: After how long without a byte taken by the client, while there is something
            to send, its connection is aborted.
        open_timeout: How long a client may take over the opening handshake, and an authenticator
            with it.
        close_timeout: How long a client may take over the closing handshake, and how long
            callbacks may still run when the hub is closed.
        allowed_origins: The origins whose pages may connect, such as ``https://app.example``, or
            ``"*"`` for all; None for the server's own pages only. Upper case, a default port and a
            slash at the end make no difference.
        require_origin: Whether requests without an ``Origin`` header are refused. Programs that
            are no browsers do not send one.
        check_origin: Decides instead of both about a request's origin; raising means no.
        authenticator: Decides who may connect; None lets everyone.
        channel_authorizer: Decides who may subscribe to what; None lets everyone.
        publish_authorizer: Decides which clients may publish to what; None lets nobody, and such
            messages go to ``on_message`` as all others do.
        on_connect: Called with each new connection.
        on_message: Called with each message of a client that the hub does not serve itself.
        on_disconnect: Called when a connection has ended, with how.
        on_auth_failure: Called with each request that was refused for its authentication.

    Raises:
        InvalidConfigError: A setting has a value that cannot work.
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
    allowed_origins: Collection[str] | None = None
    require_origin: bool = False
    check_origin: Callable[[Request], bool] | None = None
    authenticator: Authenticator | None = None
    channel_authorizer: "ChannelAuthorizer | None" = None
    publish_authorizer: "PublishAuthorizer | None" = None
    on_connect: "Callable[[Connection], Awaitable[object] | object] | None" = None
    on_message: "Callable[[Connection, Message], Awaitable[object] | object] | None" = None
    on_disconnect: "Callable[[Connection, Disconnect], Awaitable[object] | object] | None" = None
    on_auth_failure: Callable[[Request, AuthResult], Awaitable[object] | object] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise InvalidConfigError(f"HubConfig.{field.name} must be above 0, not {value}")
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
        if isinstance(self.allowed_origins, str):
            raise InvalidConfigError(
                "HubConfig.allowed_origins must be a list of origins, not one string"
            )
        if self.allowed_origins is not None:
            try:
                origins = tuple(map(normalize_origin, self.allowed_origins))
            except ValueError as exc:
                raise InvalidConfigError(f"HubConfig.allowed_origins: {exc}") from None
            object.__setattr__(self, "allowed_origins", origins)
        if self.max_outbox_bytes < self.max_message_bytes + _LONGEST_FRAME_HEADER:
            raise InvalidConfigError(
                "HubConfig.max_outbox_bytes must hold at least one message of max_message_bytes "
                f"and the {_LONGEST_FRAME_HEADER} bytes of its frame's header"
            )
        if self.pong_timeout <= self.heartbeat_interval:
            object.__setattr__(self, "pong_timeout", 2 * self.heartbeat_interval)
