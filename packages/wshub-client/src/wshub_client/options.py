"""The options of the clients, for those that pass them on."""

import ssl as tls
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, TypedDict

from wshub_client.dialing import Proxy
from wshub_client.inbox import InboxOverflow
from wshub_client.send_queue import QueueLimits
from wshub_core import Clock, Message

Token: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
"""What a client presents: a text, or a function that is asked at every dial, plain or async."""


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of `ReconnectingClient`, which describes them."""

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
    on_message: Callable[[Message], object] | None
    on_raw: Callable[[str | bytes], object] | None
    clock: Clock | None
