"""The first line of an HTTP request, which decides who serves the request."""

import re

from wshub_core.values.paths import normalize_path

MAX_LINE_BYTES = 8_192
"""Longest line of a handshake, in bytes, as in `websockets`, and longest path of any request."""

_MAX_FIRST_LINE_BYTES = 65_536
"""Longest first line of a plain request, in bytes. An event stream names its channels in the query.
"""

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
        None if the first line has not arrived, and False if it is malformed, or too long to answer.
    """
    end = data.find(b"\n")
    if end < 0:
        return None if len(data) <= _MAX_FIRST_LINE_BYTES else False
    line = _LINE.match(data)
    target = b"" if line is None else line[1].partition(b"?")[0]
    # The normalization of a path takes about a microsecond for each of its escapes.
    if line is None or len(target) > MAX_LINE_BYTES:
        return False
    return normalize_path(target.decode()) != path
