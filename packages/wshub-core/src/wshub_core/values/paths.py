"""Normalization of URL paths, for comparisons (RFC 3986 section 6.2.2)."""

import re
from urllib.parse import quote

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")

_ALLOWED = "/:@!$&'()*+,;=~%"
"""Characters allowed in a path beside letters, digits and ``_.-`` (RFC 3986 section 3.3)."""

_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def normalize_path(path: str) -> str:
    """Return the normal form of a path, in which only the necessary characters are escaped.

    Characters that are not allowed in a path, such as ``ö`` and the space, are replaced by escapes
    of their UTF-8 bytes. Escapes of letters, digits and ``-._~`` are decoded. Other escapes, such
    as ``%2F``, are kept, because decoding them would change the meaning of the path. Escapes have
    upper-case digits.
    """
    return _ESCAPE.sub(_normalize_escape, quote(path, safe=_ALLOWED))


def _normalize_escape(match: re.Match[str]) -> str:
    character = chr(int(match[0][1:], 16))
    return character if _UNRESERVED.match(character) else match[0].upper()
