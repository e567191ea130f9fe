"""Rules for the addresses of hubs and proxies, and for headers of the handshake."""

from ipaddress import ip_address
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from websockets.exceptions import InvalidProxy, InvalidURI
from websockets.proxy import parse_proxy
from websockets.uri import parse_uri

from wshub_core import InvalidConfigError

Proxy: TypeAlias = str | Literal[True] | None
"""The proxy of a client: an address, True for the proxy of the environment, None for no proxy."""


def check_url(url: str) -> None:
    """Check the address of a hub.

    Raises:
        InvalidConfigError: The text is not a ``ws://`` or ``wss://`` address with a host.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("ws", "wss") and not parts.fragment
        parse_uri(url)
        (parts.hostname or "").encode("idna")
    except (ValueError, InvalidURI):
        is_valid = False
    if not is_valid:
        raise InvalidConfigError(
            f"{redact_url(url)!r} is not the address of a hub: use ws://host:port/path or "
            "wss://host:port/path"
        )


def check_proxy(proxy: Proxy) -> None:
    """Check the address of a proxy.

    Raises:
        InvalidConfigError: The text is not such an address. The error shows no password.
    """
    if isinstance(proxy, str):
        try:
            parse_proxy(proxy)
        except (InvalidProxy, ValueError):
            raise InvalidConfigError(
                f"{redact_url(proxy)!r} is not the address of a proxy: use http://host:port, "
                "https://host:port or socks5://host:port"
            ) from None


def check_header(name: str, value: str) -> None:
    """Check the value of a header of the handshake.

    Raises:
        InvalidConfigError: No header can have this value (RFC 9110 section 5.5). The error does
            not show the value, which may be a token.
    """
    if not value.isascii() or not value.isprintable():
        raise InvalidConfigError(
            f"the header {name} must be printable ASCII; is there a line end in it?"
        )


def redact_url(url: str) -> str:
    """Return an address without its user, password and query, which may be secret."""
    scheme, slashes, rest = url.partition("//")
    # The text may be no valid address. Everything before an @ may be a password, so it goes.
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}".split("?", 1)[0]


def is_loopback_url(url: str) -> bool:
    """Tell whether an address names this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:
        return False
