"""The trace context of a message (W3C Trace Context, "traceparent")."""

import re

_PATTERN = r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"

is_traceparent = re.compile(_PATTERN).fullmatch
"""Return a match if a text is a valid ``traceparent``, else None."""

is_encoded_traceparent = re.compile(f'"{_PATTERN}"'.encode()).fullmatch
"""Return a match if JSON is a valid ``traceparent``, else None."""
