"""The settings and values of the history of channels (wire protocol, "History")."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from wshub_core.values.errors import InvalidConfigError
from wshub_core.values.messages import Message

MAX_OFFSET = 2**53 - 1
"""Largest offset; JSON parsers keep larger integers not exact (RFC 8259 section 6)."""

POSITION_BYTES = len(b',"epoch":"","offset":') + 8 + len(str(MAX_OFFSET))
"""Maximum number of bytes that the position adds to a message."""

is_epoch = re.compile(r"[A-Za-z0-9]{1,64}").fullmatch
"""The form of an epoch. Messages contain it without escapes, so other characters are refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryLimits:
    """The size of the history of one channel. A message that exceeds a limit removes old ones.

    Attributes:
        messages: Maximum number of messages.
        bytes: Maximum size of the messages, in bytes on the wire.
        seconds: Maximum age of a message, in seconds.

    Raises:
        InvalidConfigError: A limit is not above 0.
    """

    messages: int = 10_000
    bytes: int = 4_194_304
    seconds: float = 86_400.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            # "not … > 0" also refuses NaN.
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise InvalidConfigError(f"HistoryLimits.{name} must be above 0, not {value!r}")


class Position(NamedTuple):
    """The place of a message in the history of its channel.

    Attributes:
        epoch: The name of the stream of messages. A new epoch begins when the stream begins anew.
        offset: The number of the message; the offsets of one epoch grow by 1.
    """

    epoch: str
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryPage:
    """A part of the history of a channel.

    Attributes:
        epoch: The name of the stream; empty if nothing was ever published.
        first: Offset of the oldest message that is kept; ``offset + 1`` if none is kept.
        offset: Offset of the newest message; 0 if nothing was ever published.
        messages: The messages, each with its ``epoch`` and its ``offset``.
    """

    epoch: str
    first: int
    offset: int
    messages: tuple[Message, ...]


def validate_history(history: Mapping[str, HistoryLimits | None]) -> None:
    """Raise an error if a value of ``HubConfig.history`` is neither `HistoryLimits` nor None.

    Raises:
        InvalidConfigError: A value is invalid.
    """
    for pattern, limits in history.items():
        if not isinstance(limits, HistoryLimits | None):
            raise InvalidConfigError(
                f"HubConfig.history[{pattern!r}] must be HistoryLimits(…) or None, "
                f"not {type(limits).__qualname__}"
            )
