"""The first line of an HTTP request, which decides who serves the request."""

import re

from wshub_core.values.paths import normalize_path

MAX_LINE_BYTES = 8_192
"""Longest line of a request, in bytes, as in `websockets`."""

_LINE = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+ (?:https?://[^/ ]*)?([!-~]+) HTTP/1\.[01]\r?\n")
"""The first line of a valid request, and the target in it without the authority."""


def find_path(data: bytes) -> str | None:
    """Return the normalized path in a request; None in a malformed one.

    Args:
        data: The first bytes of the client, at least the first line.
    """
    line = _LINE.match(data)
    return None if line is None else normalize_path(line[1].decode().partition("?")[0])
