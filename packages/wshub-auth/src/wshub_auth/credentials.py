"""Where a request carries its credential: header, subprotocol, query or cookie."""

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

_MOST_CHARACTERS = 8_192
"""What servers and proxies commonly allow for one header line."""

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class CredentialSource(Protocol):
    """Finds the credential in a request.

    Attributes:
        scheme: The authentication scheme that a refusal names in ``WWW-Authenticate``; empty where
            there is none.
    """

    @property
    def scheme(self) -> str: ...  # noqa: D102 - documented above

    def read(self, request: Request) -> str:
        """Return the credential.

        Raises:
            MissingCredentialError: There is none.
            MalformedCredentialError: There is one, but it is broken.
        """


@dataclass(frozen=True, slots=True)
class BearerHeader:
    """``Authorization: Bearer <token>`` (RFC 6750 section 2.1), for programs.

    The scheme's case does not matter, and blanks around the token are not part of it. Of several
    headers the first counts.
    """

    scheme: ClassVar[str] = "Bearer"

    def read(self, request: Request) -> str:
        """Return the token; see `CredentialSource.read`."""
        try:
            # Headers come as ISO 8859-1, which stands for any octets (RFC 9110 section 5.5).
            header = (request.header("authorization") or "").encode("latin-1").decode().strip()
        except UnicodeError:
            raise MalformedAuthHeaderError from None
        if not header:
            raise MissingAuthHeaderError
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise MalformedAuthHeaderError
        return token


@dataclass(frozen=True, slots=True)
class BearerSubprotocol:
    """``Sec-WebSocket-Protocol: wshub.bearer, <token>``, for browsers.

    A browser says ``new WebSocket(url, ["wshub.bearer", encodeURIComponent(token)])``. The token is
    percent-encoded, so that any will do; that of a JSON Web Token is the token itself.
    """

    scheme: ClassVar[str] = ""

    def read(self, request: Request) -> str:
        """Return the token; see `CredentialSource.read`."""
        offered = offered_subprotocols(request)
        if BEARER_SUBPROTOCOL not in offered:
            raise MissingTokenError("token subprotocol")
        following = offered[offered.index(BEARER_SUBPROTOCOL) + 1 :]
        token = _unquote(following[0]) if following else None
        if not token:
            raise MalformedTokenError
        return token


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """``?token=…`` in the address; it tends to end up in logs, see `TokenRedactor`.

    The first parameter of the name counts, percent- and plus-decoded. Pairs that cannot be decoded
    are as if they were not there, as go-ws has it.

    Attributes:
        name: The parameter's name; its case matters.
    """

    name: str = "token"

    scheme: ClassVar[str] = ""

    def read(self, request: Request) -> str:
        """Return the token; see `CredentialSource.read`."""
        for pair in request.query.split("&"):
            # A semicolon once separated pairs too, so today it makes them ambiguous.
            if ";" in pair:
                continue
            name, _, value = pair.partition("=")
            token = _unquote(value.replace("+", " "))
            if _unquote(name.replace("+", " ")) == self.name and token is not None:
                if token:
                    return token
                break
        raise MissingTokenError(f"{self.name} query parameter")


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie, which browsers send by themselves.

    They do so for pages of other origins too, so it is the hub's check of the origin that keeps
    those out.

    Attributes:
        name: The cookie's name; its case matters.
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
    """Check what no credential of any kind may be.

    Raises:
        MalformedTokenError: It is too long, or has control characters or lone surrogates.
    """
    if len(text) > _MOST_CHARACTERS or _CONTROL_CHARACTERS.search(text):
        raise MalformedTokenError
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedTokenError from None


def _unquote(text: str) -> str | None:
    """Return percent-decoded text; None if it cannot be decoded."""
    if _BROKEN_ESCAPE.search(text):
        return None
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        return None
