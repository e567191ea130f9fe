"""The settings of ``wshub serve``, in one table.

The flags, the environment variables and the keys of the configuration file are derived from the
fields of `ServeSettings`, so a new setting is one new field.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any, Literal

from wshub_core.admin.app import validate_admin_key
from wshub_core.page.page import PROCESS_HISTORY
from wshub_core.values.channels import PROCESS_CHANNEL_PREFIX
from wshub_core.values.compression import Compression
from wshub_core.values.config import HubConfig, Overflow
from wshub_core.values.errors import InvalidConfigError
from wshub_core.values.history import HistoryLimits
from wshub_core.values.presence import PresenceSettings

_HUB = HubConfig()

_MOST_WORKERS = 1_000
"""Maximum number of workers. A mistake, such as the number of a port, must not fill the memory."""

_PROCESS_PATTERN = f"{PROCESS_CHANNEL_PREFIX}*"


def _setting(default: Any, effect: str, metavar: str | None = None, *, secret: bool = False) -> Any:
    """Return a field of the table.

    Args:
        default: The default.
        effect: The effect, for ``--help``.
        metavar: The name of the value in ``--help``.
        secret: Whether the value may hold a secret, which ``repr`` must not show.
    """
    return field(default=default, repr=not secret, metadata={"effect": effect, "metavar": metavar})


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """The settings of ``wshub serve``. Durations are in seconds, sizes in bytes.

    The page "Settings" of the reference describes each setting. Settings with the name of a setting
    of `HubConfig` have its meaning and its default.

    Raises:
        InvalidConfigError: A setting has an invalid value.
    """

    host: str = _setting("localhost", "where to listen")
    port: int = _setting(8080, "the TCP port; 0: any free")
    workers: int = _setting(
        1, "serve the port with so many processes, joined by --redis", metavar="N"
    )
    redis: str | None = _setting(
        None,
        "join the hubs that use the same Redis, such as redis://localhost:6379",
        metavar="URL",
        secret=True,
    )
    api_keys: str | None = _setting(
        None, "serve the HTTP API at /api, for the keys of this file", metavar="FILE"
    )
    client_keys: str | None = _setting(
        None, "let clients connect that have a key of this file", metavar="FILE"
    )
    jwt_secret: str | None = _setting(
        None,
        "let clients connect whose JSON Web Token is signed with this secret (HS256)",
        metavar="SECRET",
        secret=True,
    )
    jwt_keys_url: str | None = _setting(
        None,
        "let clients connect whose JSON Web Token is signed with a key of this key set",
        metavar="URL",
    )
    jwt_audience: str | None = _setting(None, "the required audience of JSON Web Tokens")
    jwt_issuer: str | None = _setting(None, "the required issuer of JSON Web Tokens")
    allowed_channels: tuple[str, ...] | None = _setting(
        None,
        "the channels that clients may subscribe to, such as public:**,user:{user_id}",
        metavar="PATTERNS",
    )
    admin: bool = _setting(False, "serve the admin view at an address of its own")
    admin_host: str = _setting("localhost", "where to listen for the admin view")
    admin_port: int = _setting(8081, "the TCP port of the admin view; 0: any free")
    admin_key: str | None = _setting(
        None, "the key of the admin view; without it, a new one is printed", "KEY", secret=True
    )
    metrics: bool = _setting(False, "serve metrics for Prometheus at /metrics")
    log_format: Literal["text", "json"] | None = _setting(
        None, "the form of the log: text or json (text in a terminal, else json)"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "the lowest level of the log: debug, info, warning or error"
    )
    access_log: bool = _setting(
        False, "log each HTTP request, and the beginning and the end of each connection"
    )
    ready_needs_redis: bool = _setting(False, "let /readyz fail while Redis cannot be reached")
    drain_window: float = _setting(
        0.0,
        "after SIGTERM, close the connections over so many seconds; 0: all at once",
        metavar="S",
    )
    allow_publish: bool = _setting(
        False, "let every client publish: `wshub send`, `wshub run --to`"
    )
    allowed_origins: tuple[str, ...] | None = _setting(
        None, "the origins whose pages may connect, such as https://app.example", metavar="ORIGINS"
    )
    require_origin: bool = _setting(False, "refuse requests without an origin")
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "the networks of proxies whose X-Forwarded-For names the client, such as 127.0.0.1",
        metavar="NETWORKS",
    )
    compression: bool = _setting(False, "compress messages for clients that support it")
    max_connections: int | None = _setting(
        _HUB.max_connections, "refuse connections above this number", metavar="N"
    )
    max_subscriptions: int = _setting(
        _HUB.max_subscriptions, "the most subscriptions of a connection", metavar="N"
    )
    max_message_bytes: int = _setting(
        _HUB.max_message_bytes, "the largest message", metavar="BYTES"
    )
    max_outbox_bytes: int = _setting(
        _HUB.max_outbox_bytes, "the most bytes that may wait for a connection", metavar="BYTES"
    )
    overflow: Overflow = _setting(  # noqa: RUF009 - the type is a literal, which is immutable
        _HUB.overflow, "the policy for a full outbox: close, drop_oldest or drop_newest"
    )
    heartbeat_interval: float = _setting(
        _HUB.heartbeat_interval, "the time between two pings", metavar="S"
    )
    pong_timeout: float = _setting(
        _HUB.pong_timeout, "close a connection after so long a silence", metavar="S"
    )
    write_timeout: float = _setting(
        _HUB.write_timeout, "abort a connection that takes no bytes for so long", metavar="S"
    )
    open_timeout: float = _setting(_HUB.open_timeout, "the longest opening handshake", metavar="S")
    close_timeout: float = _setting(
        _HUB.close_timeout, "the longest closing handshake", metavar="S"
    )
    history_messages: int | None = _setting(
        None,
        f"keep so many messages of each process; 0: none ({PROCESS_HISTORY.messages})",
        metavar="N",
    )
    history_bytes: int | None = _setting(
        None,
        f"keep so many bytes of the messages of each process ({PROCESS_HISTORY.bytes})",
        metavar="BYTES",
    )
    history_seconds: float | None = _setting(
        None, f"keep each message so many seconds ({PROCESS_HISTORY.seconds:g})", metavar="S"
    )
    max_history_bytes: int = _setting(
        _HUB.max_history_bytes, "the most bytes of all histories in memory", metavar="BYTES"
    )
    history: Mapping[str, HistoryLimits] = field(default_factory=dict)
    presence: Mapping[str, PresenceSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = list(self._find_problems())
        try:
            HubConfig(**self.hub_settings())
        except InvalidConfigError as exc:
            problems.append(str(exc).replace("HubConfig.", ""))
        if problems:
            raise InvalidConfigError("\n".join(problems))

    def _find_problems(self) -> Iterator[str]:
        """Yield the errors of all settings but those of `HubConfig`."""
        if not 1 <= self.workers <= _MOST_WORKERS:
            yield f"workers must be 1 to {_MOST_WORKERS}, not {self.workers}"
        if self.workers > 1 and self.redis is None:
            yield "several workers need redis: each worker is a hub of its own, which Redis joins"
        if self.workers > 1 and self.admin:
            yield "admin needs one worker: it shows the hub of one process"
        if self.workers > 1 and self.metrics:
            yield "metrics needs one worker: a request for /metrics would reach any one of them"
        if self.ready_needs_redis and self.redis is None:
            yield "ready_needs_redis needs redis: without a bridge, /readyz would always fail"
        if not (isfinite(self.drain_window) and self.drain_window >= 0):
            yield f"drain_window must be 0 or a number of seconds, not {self.drain_window}"
        if self.jwt_secret is None and self.jwt_keys_url is None:
            for name in ("jwt_audience", "jwt_issuer"):
                if getattr(self, name) is not None:
                    yield f"{name} needs jwt_secret or jwt_keys_url"
        for name, port in (("port", self.port), ("admin_port", self.admin_port)):
            if not 0 <= port <= 65_535:
                yield f"{name} must be 0 to 65535, not {port}"
        if self.admin_key is not None:
            try:
                validate_admin_key(self.admin_key)
            except InvalidConfigError as exc:
                yield f"admin_key: {exc}"

    def hub_settings(self) -> dict[str, Any]:
        """Return the settings for `HubConfig`."""
        names = {each.name for each in fields(self)} & {each.name for each in fields(HubConfig)}
        settings = {name: getattr(self, name) for name in names}
        settings["history"] = self._histories()
        settings["compression"] = Compression() if self.compression else None
        if self.allow_publish:
            settings["publish_authorizer"] = lambda *_: True
        return settings

    def _histories(self) -> dict[str, HistoryLimits | None]:
        base = self.history.get(_PROCESS_PATTERN, PROCESS_HISTORY)
        limits = None
        if self.history_messages != 0:
            limits = HistoryLimits(
                messages=_first(self.history_messages, base.messages),
                bytes=_first(self.history_bytes, base.bytes),
                seconds=_first(self.history_seconds, base.seconds),
            )
        return {**self.history, _PROCESS_PATTERN: limits}


def _first(value: Any, default: Any) -> Any:
    return default if value is None else value
