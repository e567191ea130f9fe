"""The first line of an HTTP request, which decides who serves the request."""

import re

from wshub_core.values.paths import normalize_path

MAX_LINE_BYTES = 8_192
"""Longest line of a request, in bytes, as in `websockets`."""

_LINE = re.compile(
    rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+ (?:(?i:https?)://[^/ ?]*)?([!-~]+) HTTP/1\.[01]\r?\n"
)
"""The first line of a valid request, and the target in it without the authority."""


def is_for_other_path(data: bytes, path: str | None) -> bool | None:
    """Return whether a request is for another path than that of the hub.

    Args:
        data: The first bytes of the client.
        path: The normalized path of the hub; None for none.

    Returns:
        None if the first line has not arrived, and False if it is malformed or too long.
    """
    end = data.find(b"\n")
    if end < 0 and len(data) <= MAX_LINE_BYTES:
        return None
    line = _LINE.match(data) if 0 <= end <= MAX_LINE_BYTES else None
    return line is not None and normalize_path(line[1].decode().partition("?")[0]) != path
