"""The settings of a hub."""

from collections.abc import Awaitable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wshub_core.values.errors import InvalidConfigError

if TYPE_CHECKING:
    from wshub_core.runtime.connection import Connection


class ChannelAuthorizer(Protocol):
    """Decides who may subscribe to what; a plain or an async function will do."""

    def __call__(self, connection: "Connection", channel: str, /) -> bool | Awaitable[bool]:
        """Tell whether a connection may subscribe to a channel.

        Asked once per subscription, with a valid channel name. Raising means no.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class HubConfig:
    """The settings of a hub. Durations are seconds, sizes are bytes.

    Attributes:
        max_message_bytes: The most bytes of one message, in both directions. 64 KiB is what
            clients of go-ws accept.
        max_subscriptions: The most channels one connection can subscribe to.
        max_outbox_bytes: The most bytes that may wait for one connection, in the hub and in the
            transport's buffer together. A connection that passes it is closed with 1013. 1 MiB
            holds the bursts of an ordinary page, and a thousand stalled clients fit in a GiB.
        open_timeout: How long a client may take over the opening handshake.
        close_timeout: How long a client may take over the closing handshake.
        allowed_origins: The origins whose pages may connect, such as ``https://app.example``, or
            ``"*"`` for all; None for the server's own pages only. Requests without an ``Origin``
            header do not come from pages and always pass.
        channel_authorizer: Decides who may subscribe to what; None lets everyone.

    Raises:
        InvalidConfigError: A setting has a value that cannot work.
    """

    max_message_bytes: int = 65_536
    max_subscriptions: int = 1_024
    max_outbox_bytes: int = 1_048_576
    open_timeout: float = 10.0
    close_timeout: float = 10.0
    allowed_origins: Collection[str] | None = None
    channel_authorizer: ChannelAuthorizer | None = None

    def __post_init__(self) -> None:
        for name in (
            "max_message_bytes",
            "max_subscriptions",
            "max_outbox_bytes",
            "open_timeout",
            "close_timeout",
        ):
            if not getattr(self, name) > 0:
                raise InvalidConfigError(f"HubConfig.{name} must be above 0")
        if isinstance(self.allowed_origins, str):
            raise InvalidConfigError(
                "HubConfig.allowed_origins must be a list of origins, not one string"
            )
        if self.max_outbox_bytes < self.max_message_bytes:
            raise InvalidConfigError(
                "HubConfig.max_outbox_bytes must hold at least one message of max_message_bytes"
            )
