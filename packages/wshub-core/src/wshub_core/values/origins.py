"""The check of the ``Origin`` header (RFC 6454, RFC 6455 section 10.2).

Browsers let any page open a WebSocket to any server, and send the user's cookies with the request.
They also send the page's origin, so the server can refuse pages of other sites, and has to.

A GET request has no ``Origin`` if it comes from a page of the server itself, or from an element
such as ``<img>`` of any page. The header ``Sec-Fetch-Site`` (Fetch Metadata) tells them apart.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from wshub_core.values.http import Request

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_allowed(
    request: Request, allowed_origins: Collection[str] | None, *, require_origin: bool = False
) -> bool:
    """Return whether the origin of a request is allowed.

    A request with neither ``Origin`` nor ``Sec-Fetch-Site`` does not come from a page. Old browsers
    are an exception, and browsers that send a GET request over plain HTTP.

    Args:
        request: The request of the opening handshake.
        allowed_origins: The allowed origins, as `normalize_origin` returns them. ``"*"`` allows all
            origins. None allows only the server's own pages: the host and the port of the origin
            must be those of the ``Host`` header. The scheme is not compared, because a proxy may
            terminate TLS.
        require_origin: Whether requests with neither of the headers are refused.
    """
    origins = request.headers.get("origin", ())
    if not origins:
        site = request.headers.get("sec-fetch-site")
        if site is None:
            return not require_origin
        return site in (("same-origin",), ("none",)) or "*" in (allowed_origins or ())
    # Browsers send exactly one. With several, another program could check another one than we do.
    if len(origins) > 1:
        return False
    if allowed_origins is not None:
        return "*" in allowed_origins or origins[0] in allowed_origins
    return _is_same_origin(origins[0], request.header("host"))


def normalize_origin(origin: str) -> str:
    """Return an origin from the settings in the form that browsers send (RFC 6454 section 6.2).

    The scheme and the host are converted to lower case. A default port and a slash at the end are
    removed. ``"*"`` and ``"null"`` are returned unchanged.

    Raises:
        ValueError: No browser sends such an origin. The error text says how to correct it.
    """
    if origin in ("*", "null"):
        return origin
    example = "an origin is a scheme, a host and an optional port, such as https://app.example"
    scheme = origin.partition("://")[0]
    if scheme == origin:
        raise ValueError(f"{example}: use {f'https://{origin}'!r} instead of {origin!r}")
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or "*" in host:
        raise ValueError(f"{example}, not {origin!r}; use HubConfig.check_origin for patterns")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{example}, not {origin!r}: remove everything else")
    if not host.isascii():
        # Browsers may map the same name to ASCII in different ways (UTS 46 section 4), so the
        # mapping is left to the user.
        raise ValueError(f"{example}, not {origin!r}: write the host in ASCII, as in xn--nxasmq6b")
    name = f"[{host}]" if ":" in host else host
    is_default = port is None or port == _DEFAULT_PORTS.get(scheme.lower())
    return f"{scheme.lower()}://{name}" + ("" if is_default else f":{port}")


def is_loopback_host(host: str | None) -> bool:
    """Return whether the value of a ``Host`` header names this machine.

    Listening on loopback only does not protect a server from pages of other sites. An attacker can
    make a host name resolve to 127.0.0.1 (DNS rebinding), and the pages of that name then pass as
    the server's own pages. Checking the ``Host`` header prevents the attack.
    """
    name = host_name(host)
    try:
        return name == "localhost" or name.endswith(".localhost") or ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(host: str | None) -> str:
    """Return the name in the value of a ``Host`` header, in lower case and without brackets.

    The result is empty without a header, and if the value is invalid.
    """
    try:
        return urlsplit(f"//{host or ''}").hostname or ""
    except ValueError:
        return ""


def _is_same_origin(origin: str, host: str | None) -> bool:
    try:
        page = urlsplit(origin)
        # The scheme is used only for the default port.
        default_port = _DEFAULT_PORTS[page.scheme]
        server = urlsplit(f"//{host or ''}")
        return (
            page.hostname is not None
            and page.hostname == server.hostname
            and (page.port or default_port) == (server.port or default_port)
        )
    except (KeyError, ValueError):
        return False
