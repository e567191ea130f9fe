"""Channel authorizers, by patterns of channel names and by combination."""

from collections.abc import Awaitable, Sequence
from inspect import isawaitable

from wshub_auth.patterns import ChannelPattern
from wshub_core import ChannelAuthorizer, Connection, InvalidConfigError
from wshub_core.interrupts import is_interrupt
from wshub_core.logs import get_logger

logger = get_logger("wshub.auth")


def allow(*patterns: str) -> ChannelAuthorizer:
    """Return an authorizer that allows the channels that match at least one pattern.

    Args:
        *patterns: The patterns, such as ``public:**`` and ``user:{user_id}``; see `ChannelPattern`.

    Raises:
        InvalidConfigError: A pattern is invalid.
    """
    compiled = [ChannelPattern(each) for each in patterns]

    def authorize(connection: Connection, channel: str) -> bool:
        return any(pattern.matches(connection, channel) for pattern in compiled)

    return authorize


def allow_claimed(claim: str) -> ChannelAuthorizer:
    """Return an authorizer that allows the channels that match a pattern in a connection's claims.

    Invalid patterns in the claim are logged and allow nothing.

    Args:
        claim: The name of the claim. Its value must be a list of patterns; see `ChannelPattern`.
    """

    def authorize(connection: Connection, channel: str) -> bool:
        patterns = (connection.claims or {}).get(claim)
        # A string is a sequence, too: of characters, among which "*" is a valid pattern.
        if not isinstance(patterns, Sequence) or isinstance(patterns, str | bytes):
            return False
        return any(_claimed_pattern_matches(each, connection, channel) for each in patterns)

    return authorize


def any_of(*authorizers: ChannelAuthorizer) -> ChannelAuthorizer:
    """Return an authorizer that allows a channel if at least one authorizer allows it.

    An authorizer that raises denies the channel. Without authorizers, every channel is denied.
    """

    async def authorize(connection: Connection, channel: str) -> bool:
        for authorizer in authorizers:
            if await _authorize_safely(authorizer, connection, channel):
                return True
        return False

    return authorize


def all_of(*authorizers: ChannelAuthorizer) -> ChannelAuthorizer:
    """Return an authorizer that allows a channel if all authorizers allow it.

    An authorizer that raises denies the channel. Without authorizers, every channel is denied.
    """

    async def authorize(connection: Connection, channel: str) -> bool:
        for authorizer in authorizers:
            if not await _authorize_safely(authorizer, connection, channel):
                return False
        return bool(authorizers)

    return authorize


async def _authorize_safely(
    authorizer: ChannelAuthorizer, connection: Connection, channel: str
) -> bool:
    try:
        is_allowed: bool | Awaitable[bool] = authorizer(connection, channel)
        # Only True allows the channel. Other truthy values, such as the text "denied" or a
        # coroutine that was not awaited, are mistakes of the authorizer.
        return (await is_allowed if isawaitable(is_allowed) else is_allowed) is True
    except BaseException as error:
        if is_interrupt(error):
            raise
        logger.exception("a channel authorizer failed")
        return False


def _claimed_pattern_matches(text: object, connection: Connection, channel: str) -> bool:
    try:
        return isinstance(text, str) and ChannelPattern(text).matches(connection, channel)
    except InvalidConfigError as error:
        logger.warning("ignored a pattern in the claims of %r: %s", connection, error)
        return False
