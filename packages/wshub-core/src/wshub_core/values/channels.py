"""Rules for the names of channels and the ids of processes (wire protocol, "Names").

The name of a channel has 1 to 256 of the ASCII characters ``A-Z a-z 0-9 _ - . :``. Channels that
begin with ``process:`` belong to processes. The rest of such a name must be a process id, which has
1 to 128 of the same characters without the colon. Channels that begin with ``wshub:`` are reserved
for hubs.
"""

import re
from functools import lru_cache

from wshub_core.values.errors import InvalidChannelError, InvalidProcessIDError

BROADCAST = ""
"""The value for "every connection", where a bridge takes the name of a channel."""

PROCESS_CHANNEL_PREFIX = "process:"

FLEET_CHANNEL = "wshub:private:fleet"
"""The channel of the operations that hubs pass to each other. All hubs with a bridge are subscribed
to it, and nobody else may publish to it: an operation can end connections."""

_HUB_PREFIX = "wshub:"
_PRIVATE_PREFIX = "wshub:private:"

_is_channel = re.compile(r"[A-Za-z0-9_.:-]{1,256}").fullmatch
_is_process_id = re.compile(r"[A-Za-z0-9_.-]{1,128}").fullmatch


def validate_channel(channel: str) -> None:
    """Raise an error if a channel name is invalid.

    Raises:
        InvalidChannelError: The name is empty, too long, or contains a forbidden character.
        InvalidProcessIDError: The name begins with ``process:`` and the rest is not a process id.
        TypeError: The name is not a `str`.
    """
    if not isinstance(channel, str):
        raise TypeError(f"a channel must be a str, not {type(channel).__qualname__}")
    _validate_name(channel)


@lru_cache(maxsize=4_096)
def _validate_name(channel: str) -> None:
    """Raise an error if a channel name is invalid; remember the latest valid names."""
    if not _is_channel(channel):
        raise InvalidChannelError(channel)
    if channel.startswith(PROCESS_CHANNEL_PREFIX):
        validate_process_id(channel[len(PROCESS_CHANNEL_PREFIX) :])


def validate_process_id(process_id: str) -> None:
    """Raise an error if a process id is invalid.

    Raises:
        InvalidProcessIDError: The id is empty, too long, or contains a forbidden character.
        TypeError: The id is not a `str`.
    """
    if not isinstance(process_id, str):
        raise TypeError(f"a process id must be a str, not {type(process_id).__qualname__}")
    if not _is_process_id(process_id):
        raise InvalidProcessIDError(process_id)


def is_for_hubs(channel: str) -> bool:
    """Return whether only hubs may publish to a channel: its name begins with ``wshub:``."""
    return channel.startswith(_HUB_PREFIX)


def is_between_hubs(channel: str) -> bool:
    """Return whether only hubs may subscribe to a channel: it begins with ``wshub:private:``."""
    return channel.startswith(_PRIVATE_PREFIX)


def process_channel(process_id: str) -> str:
    """Return the channel for the output and the status of a process.

    Raises:
        InvalidProcessIDError: The id is invalid.
    """
    validate_process_id(process_id)
    return PROCESS_CHANNEL_PREFIX + process_id
