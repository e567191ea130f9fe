"""Settings of the clients.

`ReconnectingClient` takes them as keyword arguments and hands them on in groups, one for each part
of the client. The groups are frozen and validate themselves. They have no defaults: these stand in
the signature of `ReconnectingClient` only.
"""

import asyncio
import ssl as tls
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

from wshub_client.addresses import Proxy, check_header, check_proxy, check_url
from wshub_client.inbox import InboxOverflow
from wshub_client.recovery import Gap
from wshub_client.send_queue import QueueLimits
from wshub_core import Clock, InvalidConfigError, Message

Token: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
"""The token of a client: a text, or a plain or async function that is called at every dial."""


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of `ReconnectingClient`, for functions that pass them on."""

    token: Token
    headers: Mapping[str, str] | None
    origin: str | None
    ssl: tls.SSLContext | None
    proxy: Proxy
    initial_backoff: float
    max_backoff: float
    backoff_multiplier: float
    max_attempts: int | None
    stable_after: float
    open_timeout: float
    close_timeout: float
    heartbeat_interval: float
    pong_timeout: float
    max_message_bytes: int
    max_send_bytes: int
    queue: QueueLimits | None
    inbox_size: int
    overflow: InboxOverflow
    on_connect: Callable[[], object] | None
    on_reconnect: Callable[[int], object] | None
    on_disconnect: Callable[[], object] | None
    on_error: Callable[[Exception], object] | None
    on_gap: Callable[[Gap], object] | None
    on_message: Callable[[Message], object] | None
    on_raw: Callable[[str | bytes], object] | None
    clock: Clock | None


@dataclass(frozen=True, slots=True)
class DialSettings:
    """Settings of dials: the address, the credentials, and the bounds of one connection."""

    url: str
    token: Token
    headers: Mapping[str, str]
    origin: str | None
    ssl: tls.SSLContext | None
    proxy: Proxy
    open_timeout: float
    close_timeout: float
    max_message_bytes: int

    def __post_init__(self) -> None:
        check_url(self.url)
        if self.ssl is not None and not self.url.lower().startswith("wss:"):
            raise InvalidConfigError("ssl goes with wss:// addresses only")
        for name, value in self.headers.items():
            check_header(name, value)
        if isinstance(self.token, str):
            check_header("Authorization", self.token)
        check_proxy(self.proxy)
        _check_positive("open_timeout", self.open_timeout)
        _check_positive("close_timeout", self.close_timeout)
        _check_positive("max_message_bytes", self.max_message_bytes)


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """Settings of the reconnect loop: the backoff, and the number of tolerated failures."""

    initial_backoff: float
    max_backoff: float
    backoff_multiplier: float
    max_attempts: int | None
    stable_after: float

    def __post_init__(self) -> None:
        _check_positive("initial_backoff", self.initial_backoff)
        _check_positive("max_backoff", self.max_backoff)
        _check_positive("stable_after", self.stable_after)
        if not 1 <= self.backoff_multiplier < float("inf"):
            raise InvalidConfigError(
                f"backoff_multiplier must be 1 or more, not {self.backoff_multiplier}"
            )


@dataclass(frozen=True, slots=True)
class HeartbeatSettings:
    """Settings of the heartbeat, and the clock that it goes by."""

    interval: float
    pong_timeout: float
    clock: Clock | None

    def __post_init__(self) -> None:
        _check_positive("heartbeat_interval", self.interval)
        _check_positive("pong_timeout", self.pong_timeout)

    def get_clock(self) -> Clock:
        """Return the clock, which is the running event loop unless another was given."""
        return self.clock or asyncio.get_running_loop()


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """Bounds of the messages that wait to be sent, or for the application."""

    max_send_bytes: int
    queue: QueueLimits | None
    inbox_size: int
    overflow: InboxOverflow

    def __post_init__(self) -> None:
        _check_positive("max_send_bytes", self.max_send_bytes)
        _check_positive("inbox_size", self.inbox_size)


@dataclass(frozen=True, slots=True)
class Handlers:
    """The callbacks that the application has given."""

    on_connect: Callable[[], object] | None
    on_reconnect: Callable[[int], object] | None
    on_disconnect: Callable[[], object] | None
    on_error: Callable[[Exception], object] | None
    on_gap: Callable[[Gap], object] | None
    on_message: Callable[[Message], object] | None
    on_raw: Callable[[str | bytes], object] | None


def _check_positive(name: str, value: float) -> None:
    # NaN fails every comparison, so it is refused here as well.
    if not value > 0:
        raise InvalidConfigError(f"{name} must be above 0, not {value}")
