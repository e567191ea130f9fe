"""Which names channels and processes may have (wire protocol, "Names").

A name is 1 to 256 ASCII characters of ``A-Z a-z 0-9 _ - . :``. Channels that begin with
``process:`` belong to processes: what follows the first colon must be a process id, which is 1 to
128 of the same characters without the colon. Channels that begin with ``wshub:`` are the hubs' own.
"""

import re

from wshub_core.values.errors import InvalidChannelError, InvalidProcessIDError

BROADCAST = ""
"""Stands for "every connection" where a bridge takes the name of a channel."""

PROCESS_CHANNEL_PREFIX = "process:"

_HUB_PREFIX = "wshub:"
_PRIVATE_PREFIX = "wshub:private:"

_is_channel = re.compile(r"[A-Za-z0-9_.:-]{1,256}").fullmatch
_is_process_id = re.compile(r"[A-Za-z0-9_.-]{1,128}").fullmatch


def validate_channel(channel: str) -> None:
    """Check the name of a channel.

    Raises:
        InvalidChannelError: The name is empty, too long or has a character that is not allowed.
        InvalidProcessIDError: The name begins with ``process:`` and the rest is no process id.
        TypeError: The name is no `str`.
    """
    if not isinstance(channel, str):
        raise TypeError(f"a channel must be a str, not {type(channel).__qualname__}")
    if not _is_channel(channel):
        raise InvalidChannelError(channel)
    if channel.startswith(PROCESS_CHANNEL_PREFIX):
        validate_process_id(channel[len(PROCESS_CHANNEL_PREFIX) :])


def validate_process_id(process_id: str) -> None:
    """Check the id of a process.

    Raises:
        InvalidProcessIDError: The id is empty, too long or has a character that is not allowed.
        TypeError: The id is no `str`.
    """
    if not isinstance(process_id, str):
        raise TypeError(f"a process id must be a str, not {type(process_id).__qualname__}")
    if not _is_process_id(process_id):
        raise InvalidProcessIDError(process_id)


def is_for_hubs(channel: str) -> bool:
    """Tell whether only hubs publish to a channel: its name begins with ``wshub:``."""
    return channel.startswith(_HUB_PREFIX)


def is_between_hubs(channel: str) -> bool:
    """Tell whether clients cannot subscribe to a channel: it begins with ``wshub:private:``."""
    return channel.startswith(_PRIVATE_PREFIX)


def process_channel(process_id: str) -> str:
    """Return the channel that carries a process's output and status.

    Raises:
        InvalidProcessIDError: The id breaks the rules.
    """
    validate_process_id(process_id)
    return PROCESS_CHANNEL_PREFIX + process_id
