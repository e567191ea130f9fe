"""The settings and values of presence: who is subscribed to a channel (wire protocol, "Presence").

A connection is a *member* of a channel while it is subscribed to the channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from wshub_core.values.errors import InvalidConfigError
from wshub_core.values.messages import JSON

MAX_INFO_BYTES = 1_024
"""Maximum size of the ``info`` of a member as JSON, in bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PresenceSettings:
    """The settings of the presence of a channel.

    Attributes:
        announce: Whether the hubs publish a message of type ``join`` when a user comes, and of type
            ``leave`` when a user has gone. A user with several connections comes with the first one
            and goes with the last one. Connections without a user count one by one.
        leave_delay: Time in seconds after the end of the last connection of a user until ``leave``
            is published. A user who returns within this time causes neither message. Connections
            without a user cannot return, so the time does not apply to them.

    Raises:
        InvalidConfigError: ``leave_delay`` is negative or no number.
    """

    announce: bool = False
    leave_delay: float = 15.0

    def __post_init__(self) -> None:
        delay = self.leave_delay
        # Infinity and NaN cannot be sent to a server as a number of milliseconds.
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= 1e9:
            raise InvalidConfigError(
                f"PresenceSettings.leave_delay must be 0 or a number of seconds, not {delay!r}"
            )


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A connection that is subscribed to a channel.

    Attributes:
        user_id: The user id from the authenticator; empty without one.
        connection_id: An id that is unique among the connections of all hubs.
        info: The result of ``HubConfig.presence_info``; None if there is none.
    """

    user_id: str
    connection_id: str
    info: JSON = None


class PresenceCount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The number of members of a channel.

    Attributes:
        connections: Number of connections.
        users: Number of different users. Each connection without a user counts as one more.
    """

    connections: int
    users: int


class Presence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The members of a channel on all hubs.

    Attributes:
        connections: Number of connections.
        users: Number of different users. Each connection without a user counts as one more.
        members: The members, in no particular order.
        truncated: Whether members were left out, because there are more than were asked for or
            than fit into a message. The two numbers are exact.
    """

    connections: int
    users: int
    members: tuple[Member, ...] = ()
    truncated: bool = False


def validate_presence(presence: Mapping[str, PresenceSettings | None]) -> None:
    """Raise an error if a value of ``HubConfig.presence`` is neither `PresenceSettings` nor None.

    Raises:
        InvalidConfigError: A value is invalid.
    """
    for pattern, settings in presence.items():
        if not isinstance(settings, PresenceSettings | None):
            raise InvalidConfigError(
                f"HubConfig.presence[{pattern!r}] must be PresenceSettings(…) or None, "
                f"not {type(settings).__qualname__}"
            )
