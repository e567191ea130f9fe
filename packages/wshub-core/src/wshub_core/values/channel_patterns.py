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
    fits a channel counts. The value None stands for "no value".

    Args:
        name: The name of the setting, for errors.
        patterns: The patterns, each with its value.

    Raises:
        InvalidConfigError: A pattern is no name of a channel, and no prefix with a ``*`` at its
            end.
    """

    def __init__(self, name: str, patterns: Mapping[str, T | None]) -> None:
        self._name = name
        self._patterns: tuple[tuple[str, bool, T | None], ...] = ()
        for pattern, value in patterns.items():
            self.add(pattern, value)

    def add(self, pattern: str, value: T | None) -> None:
        """Add a pattern behind the others. Safe while other threads call `find`.

        Raises:
            InvalidConfigError: The pattern is invalid.
        """
        if not isinstance(pattern, str) or not _is_pattern(pattern):
            raise InvalidConfigError(
                f"{self._name}: {pattern!r} must be the name of a channel, or the beginning of one "
                "and a * at its end"
            )
        added = pattern.removesuffix("*"), pattern.endswith("*"), value
        self._patterns = (*self._patterns, added)

    @property
    def has_values(self) -> bool:
        """True if a channel can have a value."""
        return any(value is not None for _, _, value in self._patterns)

    def find(self, channel: str) -> T | None:
        """Return the value of a channel; None if no pattern fits, or the value is None."""
        # A channel of another type fits no pattern, and the caller's own check names the type.
        for text, is_prefix, value in self._patterns if isinstance(channel, str) else ():
            if channel.startswith(text) if is_prefix else channel == text:
                return value
        return None
