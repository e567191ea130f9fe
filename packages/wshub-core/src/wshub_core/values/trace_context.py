"""The trace context of a message (W3C Trace Context, "traceparent")."""

import re

_PATTERN = r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"

_match = re.compile(_PATTERN).fullmatch

is_encoded_traceparent = re.compile(f'"{_PATTERN}"'.encode()).fullmatch
"""Return a match if JSON is a valid ``traceparent``, else None."""


def is_traceparent(value: object) -> bool:
    """Return True if a value is a valid ``traceparent``."""
    return isinstance(value, str) and _match(value) is not None
