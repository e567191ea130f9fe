"""Paths of URLs in one spelling, so that they can be compared (RFC 3986 section 6.2.2)."""

import re
from urllib.parse import quote

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")

_ALLOWED = "/:@!$&'()*+,;=~%"
"""What may stand in a path beside letters, digits and ``_.-`` (RFC 3986 section 3.3)."""

_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def normalize_path(path: str) -> str:
    """Return a path with its characters escaped where they must be, and only there.

    Characters that are not allowed in a path, such as ``ö`` and the space, become escapes of their
    UTF-8 bytes. Escapes are written in upper case. Escaped letters, digits and ``-._~`` stand for
    themselves. Other escapes, such as ``%2F``, stay.
    """
    return _ESCAPE.sub(_normalize_escape, quote(path, safe=_ALLOWED))


def _normalize_escape(match: re.Match[str]) -> str:
    character = chr(int(match[0][1:], 16))
    return character if _UNRESERVED.match(character) else match[0].upper()
