"""Credential sources: the places of a request that can hold a credential.

A source extracts the credential and does not validate it; the authenticators of `wshub_auth.tokens`
validate it. The rules are in the wire protocol, "Authentication".
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Protocol
from urllib.parse import unquote_to_bytes

from wshub_auth.errors import (
    MalformedAuthHeaderError,
    MalformedTokenError,
    MissingAuthHeaderError,
    MissingTokenError,
)
from wshub_core import BEARER_SUBPROTOCOL, Request, offered_subprotocols

_MAX_CREDENTIAL_CHARACTERS = 8_192
"""Length of a header line that servers and proxies commonly accept."""

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_INVALID_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class CredentialSource(Protocol):
    """A place of a request that can hold a credential.

    Attributes:
        scheme: The authentication scheme for ``WWW-Authenticate`` when the hub refuses the request
            (RFC 9110 section 11.1); empty if the place belongs to no scheme.
    """

    @property
    def scheme(self) -> str: ...  # noqa: D102 - documented above

    def read(self, request: Request) -> str:
        """Return the credential of a request.

        Raises:
            MissingCredentialError: The request has no credential in this place.
            MalformedCredentialError: The credential is malformed.
        """


@dataclass(frozen=True, slots=True)
class BearerHeader:
    """The header ``Authorization: Bearer <token>`` (RFC 6750 section 2.1), for programs.

    The scheme is case-insensitive. Whitespace around the token is removed. If a request has several
    ``Authorization`` headers, only the first is read.
    """

    scheme: ClassVar[str] = "Bearer"

    def read(self, request: Request) -> str:
        """Return the token; see `CredentialSource.read`."""
        try:
            # Servers decode header values as ISO 8859-1, which maps every octet to one character
            # (RFC 9110 section 5.5). Encoding restores the octets; clients send them as UTF-8.
            header = (request.header("authorization") or "").encode("latin-1").decode().strip()
        except UnicodeError:
            raise MalformedAuthHeaderError from None
        if not header:
            raise MissingAuthHeaderError
        # Exactly a space ends the scheme; "Bearer\t<token>" is malformed (RFC 6750 section 2.1).
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise MalformedAuthHeaderError
        return token


@dataclass(frozen=True, slots=True)
class BearerSubprotocol:
    """The header ``Sec-WebSocket-Protocol: wshub.bearer, <token>``, for browsers.

    A page calls ``new WebSocket(url, ["wshub.bearer", encodeURIComponent(token)])``. Subprotocol
    names allow few characters (RFC 9110 section 5.6.2), so the token is percent-encoded. Encoding
    does not change a JSON Web Token.
    """

    scheme: ClassVar[str] = ""

    def read(self, request: Request) -> str:
        """Return the token; see `CredentialSource.read`."""
        offered = offered_subprotocols(request)
        if BEARER_SUBPROTOCOL not in offered:
            raise MissingTokenError("token subprotocol")
        # The token is the subprotocol after the marker.
        following = offered[offered.index(BEARER_SUBPROTOCOL) + 1 :]
        token = _unquote(following[0]) if following else None
        if not token:
            raise MalformedTokenError
        return token


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """The query parameter ``?token=…`` of the URL.

    Servers and proxies often log URLs; see `TokenRedactor`. If the query has several parameters of
    the name, the first is read. Percent escapes and plus signs are decoded. Pairs that cannot be
    decoded are ignored, as in go-ws.

    Attributes:
        name: The parameter's name, case-sensitive.
    """

    name: str = "token"

    scheme: ClassVar[str] = ""

    def read(self, request: Request) -> str:
        """Return the token; see `CredentialSource.read`."""
        for pair in request.query.split("&"):
            # Semicolons also separated pairs in the past (HTML 4.01 appendix B.2.2). Software in
            # front of the hub may still read them that way, so such pairs are ambiguous.
            if ";" in pair:
                continue
            name, _, value = pair.partition("=")
            token = _unquote(value.replace("+", " "))
            if _unquote(name.replace("+", " ")) == self.name and token is not None:
                if token:
                    return token
                # Only the first parameter of the name is read, even if its value is empty.
                break
        raise MissingTokenError(f"{self.name} query parameter")


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie, which browsers send automatically.

    Browsers also send cookies with connections from pages of other origins. The hub's origin check
    is the protection against such pages (cross-site WebSocket hijacking).

    Attributes:
        name: The cookie's name, case-sensitive.
    """

    name: str

    scheme: ClassVar[str] = ""

    def read(self, request: Request) -> str:
        """Return the cookie's value; see `CredentialSource.read`."""
        value = request.cookie(self.name)
        if not value:
            raise MissingTokenError(f"{self.name} cookie")
        return value


def check_credential(text: str) -> None:
    """Check the length and the characters of a credential, whatever its kind.

    Raises:
        MalformedTokenError: The credential has more than 8,192 characters, a control character, or
            a lone surrogate.
    """
    if len(text) > _MAX_CREDENTIAL_CHARACTERS or _CONTROL_CHARACTERS.search(text):
        raise MalformedTokenError
    try:
        # A lone surrogate is half of a character and cannot be encoded.
        text.encode()
    except UnicodeEncodeError:
        raise MalformedTokenError from None


def _unquote(text: str) -> str | None:
    """Return percent-decoded text, or None if the text cannot be decoded."""
    # `unquote_to_bytes` passes invalid escapes through unchanged.
    if _INVALID_ESCAPE.search(text):
        return None
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        return None
