"""Settings per channel: names and prefixes of channels, each with a value."""

import re
from collections.abc import Mapping
from typing import Generic, TypeVar

from wshub_core.values.errors import InvalidConfigError

T = TypeVar("T")

_is_pattern = re.compile(r"[A-Za-z0-9_.:-]{1,256}|[A-Za-z0-9_.:-]{0,255}\*").fullmatch


class ChannelPatterns(Generic[T]):
    """Finds the value of a channel by patterns.

    A pattern is the name of a channel, or the beginning of a name and ``*``. The first pattern that
    fits a channel counts.

    Args:
        name: The name of the setting, for errors.
        patterns: The patterns, each with its value.

    Raises:
        InvalidConfigError: A pattern is no name of a channel, and no prefix with a ``*`` at its
            end.
    """

    def __init__(self, name: str, patterns: Mapping[str, T]) -> None:
        for pattern in patterns:
            if not isinstance(pattern, str) or not _is_pattern(pattern):
                raise InvalidConfigError(
                    f"{name}: {pattern!r} must be the name of a channel, or the beginning of one "
                    "and a * at its end"
                )
        self._patterns = tuple(
            (pattern.removesuffix("*"), pattern.endswith("*"), value)
            for pattern, value in patterns.items()
        )

    def find(self, channel: str) -> T | None:
        """Return the value of a channel; None if no pattern fits."""
        for text, is_prefix, value in self._patterns:
            if channel.startswith(text) if is_prefix else channel == text:
                return value
        return None
