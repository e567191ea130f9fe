"""Patterns of channel names, with placeholders for the user id and the claims."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wshub_core import Connection, InvalidConfigError

_LITERAL = r"[A-Za-z0-9_.-]*"

_SEGMENT = re.compile(rf"(?P<prefix>{_LITERAL})(?:\{{(?P<name>\w+)\}}(?P<suffix>{_LITERAL}))?")

# A colon in a value would turn one segment into several: the user id "alice:admin" would match the
# channels of the user "alice". The other characters are those of channel names.
_PLACEHOLDER_VALUE = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment of a pattern: a literal text, or a placeholder between two literal texts."""

    prefix: str
    name: str | None
    suffix: str

    def matches(self, segment: str, values: Callable[[str], Iterable[str]]) -> bool:
        if self.name is None:
            return segment == self.prefix
        # Values are compared as text and never compiled to a regular expression.
        return any(segment == self.prefix + value + self.suffix for value in values(self.name))


class ChannelPattern:
    """A pattern of channel names. Colons divide patterns and names into segments.

    ``*`` matches exactly one segment. ``**`` matches one or more segments and is allowed only at
    the end. ``{user_id}`` stands for the connection's user id. Any other name in braces stands for
    the claim of that name; if the claim is a list, each of its values is tried. A value matches
    nothing if it is missing, blank, or contains a character other than ``A-Z a-z 0-9 _ . -``.

    Args:
        text: The pattern, such as ``team:{team}:**``.

    Raises:
        InvalidConfigError: The text is not a valid pattern.
    """

    def __init__(self, text: str) -> None:
        segments = text.split(":")
        self._matches_rest = segments[-1] == "**"
        if self._matches_rest:
            segments.pop()
        # None stands for "*".
        self._segments = [None if each == "*" else _parse(each, text) for each in segments]

    def matches(self, connection: Connection, channel: str) -> bool:
        """Return whether the pattern matches a channel for a connection."""
        segments = channel.split(":")
        if self._matches_rest:
            if len(segments) <= len(self._segments):
                return False
        elif len(segments) != len(self._segments):
            return False
        return all(
            pattern is None
            or pattern.matches(segment, lambda name: _placeholder_values(connection, name))
            # Not strict: "**" matches the segments that are left.
            for pattern, segment in zip(self._segments, segments, strict=False)
        )


def _parse(segment: str, text: str) -> _Segment:
    match = _SEGMENT.fullmatch(segment)
    if match is None or not segment:
        raise InvalidConfigError(
            f"invalid channel pattern {text[:80]!r}: a segment is *, ** at the end, or made of "
            "A-Z a-z 0-9 _ . - and at most one {name}"
        )
    return _Segment(match["prefix"], match["name"], match["suffix"] or "")


def _placeholder_values(connection: Connection, name: str) -> Iterable[str]:
    """Return the texts that a placeholder stands for, for one connection."""
    if name == "user_id":
        value: object = connection.user_id
    else:
        value = (connection.claims or {}).get(name)
    # The hub stores lists in claims as tuples, and sets as frozensets.
    values = value if isinstance(value, tuple | frozenset) else (value,)
    texts = [str(each) for each in values if isinstance(each, str | int)]
    return [text for text in texts if _PLACEHOLDER_VALUE.fullmatch(text)]
