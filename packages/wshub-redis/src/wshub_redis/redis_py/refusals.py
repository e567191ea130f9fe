"""The meaning of error replies."""

from redis import ResponseError
from redis.exceptions import MovedError, NoScriptError, ReadOnlyError


def is_read_only(refusal: ResponseError) -> bool:
    """Return whether the server has become a replica."""
    # Before Redis 7, the error of a command in a script begins with ERR.
    return isinstance(refusal, ReadOnlyError) or "-READONLY " in str(refusal)


def is_misdirected(refusal: ResponseError) -> bool:
    """Return whether another server must be asked: the primary, or the owner of the slot."""
    return isinstance(refusal, MovedError) or is_read_only(refusal)


def is_script_missing(refusal: ResponseError) -> bool:
    """Return whether the server does not know the script of a call by its name."""
    return isinstance(refusal, NoScriptError)
