"""Channel authorizers: who may listen to what, by patterns."""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import isawaitable

from wshub_core import ChannelAuthorizer, Connection, InvalidConfigError
from wshub_core.interrupts import is_interrupt
from wshub_core.logs import get_logger

logger = get_logger("wshub.auth")

_LITERAL = r"[A-Za-z0-9_.-]*"

_PART = re.compile(rf"(?P<before>{_LITERAL})(?:\{{(?P<name>\w+)\}}(?P<after>{_LITERAL}))?")

_VALUE = re.compile(r"[A-Za-z0-9_.-]+")
"""What may stand in for a name: nothing that would make several parts of one."""


@dataclass(frozen=True, slots=True)
class _Part:
    before: str
    name: str | None
    after: str

    def matches(self, part: str, values: Callable[[str], Iterable[str]]) -> bool:
        if self.name is None:
            return part == self.before
        return any(part == self.before + value + self.after for value in values(self.name))


class ChannelPattern:
    """A pattern of channel names, part by part, as colons divide them.

    ``*`` stands for one whole part and ``**``, at the end, for one or more. ``{user_id}`` stands
    for the connection's user id, and any other name in braces for that claim; if it is a list, for
    each of its values. A value that is missing, blank, or holds anything but ``A-Z a-z 0-9 _ . -``
    matches nothing.

    Args:
        text: The pattern, such as ``team:{team}:**``.

    Raises:
        InvalidConfigError: The text is no pattern.
    """

    def __init__(self, text: str) -> None:
        parts = text.split(":")
        self._matches_rest = parts[-1] == "**"
        if self._matches_rest:
            parts.pop()
        # None for any part.
        self._parts = [None if part == "*" else _parse(part, text) for part in parts]

    def matches(self, connection: Connection, channel: str) -> bool:
        """Tell whether the pattern allows a connection a channel."""
        parts = channel.split(":")
        if self._matches_rest:
            if len(parts) <= len(self._parts):
                return False
        elif len(parts) != len(self._parts):
            return False
        return all(
            pattern is None or pattern.matches(part, lambda name: _values(connection, name))
            for pattern, part in zip(self._parts, parts, strict=False)
        )


def allow(*patterns: str) -> ChannelAuthorizer:
    """Return an authorizer that allows the channels that one of the patterns matches.

    Args:
        *patterns: See `ChannelPattern`; such as ``public:**`` and ``user:{user_id}``.

    Raises:
        InvalidConfigError: A text is no pattern.
    """
    compiled = [ChannelPattern(each) for each in patterns]

    def authorize(connection: Connection, channel: str) -> bool:
        return any(pattern.matches(connection, channel) for pattern in compiled)

    return authorize


def allow_claimed(claim: str) -> ChannelAuthorizer:
    """Return an authorizer that allows the channels whose patterns the connection brings.

    Args:
        claim: The claim that holds a list of patterns; see `ChannelPattern`. One that is no pattern
            is logged and allows nothing.
    """

    def authorize(connection: Connection, channel: str) -> bool:
        patterns = (connection.claims or {}).get(claim)
        if not isinstance(patterns, Sequence) or isinstance(patterns, str | bytes):
            return False
        return any(_claimed_matches(each, connection, channel) for each in patterns)

    return authorize


def any_of(*authorizers: ChannelAuthorizer) -> ChannelAuthorizer:
    """Return an authorizer that allows what one of several allows; one that raises does not."""

    async def authorize(connection: Connection, channel: str) -> bool:
        for authorizer in authorizers:
            if await _ask(authorizer, connection, channel):
                return True
        return False

    return authorize


def all_of(*authorizers: ChannelAuthorizer) -> ChannelAuthorizer:
    """Return an authorizer that allows what all of several allow; one that raises does not.

    Without any authorizers it allows nothing.
    """

    async def authorize(connection: Connection, channel: str) -> bool:
        for authorizer in authorizers:
            if not await _ask(authorizer, connection, channel):
                return False
        return bool(authorizers)

    return authorize


async def _ask(authorizer: ChannelAuthorizer, connection: Connection, channel: str) -> bool:
    try:
        is_allowed: bool | Awaitable[bool] = authorizer(connection, channel)
        # Nothing is taken for a yes that is not one, such as a coroutine nobody has awaited.
        return (await is_allowed if isawaitable(is_allowed) else is_allowed) is True
    except BaseException as error:
        if is_interrupt(error):
            raise
        logger.exception("a channel authorizer failed")
        return False


def _parse(part: str, text: str) -> _Part:
    match = _PART.fullmatch(part)
    if match is None or not part:
        raise InvalidConfigError(
            f"{text[:80]!r} is no pattern of channels: a part is *, ** at the end, or made of "
            "A-Z a-z 0-9 _ . - and at most one {name}"
        )
    return _Part(match["before"], match["name"], match["after"] or "")


def _claimed_matches(text: object, connection: Connection, channel: str) -> bool:
    try:
        return isinstance(text, str) and ChannelPattern(text).matches(connection, channel)
    except InvalidConfigError as error:
        logger.warning("%r claims a channel that cannot be: %s", connection, error)
        return False


def _values(connection: Connection, name: str) -> Iterable[str]:
    """Return what a name in braces stands for."""
    if name == "user_id":
        value: object = connection.user_id
    else:
        value = (connection.claims or {}).get(name)
    values = value if isinstance(value, tuple | frozenset) else (value,)
    texts = [str(each) for each in values if isinstance(each, str | int)]
    return [text for text in texts if _VALUE.fullmatch(text)]
