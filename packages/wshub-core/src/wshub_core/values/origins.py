"""Which pages may connect: the rule on the ``Origin`` header (RFC 6454, RFC 6455 section 10.2).

Browsers send ``Origin`` and let any page open a WebSocket to any server, with the user's cookies.
The server has to refuse strangers itself.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from wshub_core.values.http import Request

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_allowed(
    request: Request, allowed_origins: Collection[str] | None, *, require_origin: bool = False
) -> bool:
    """Tell whether a request may open a connection, judged by its origin.

    A request without ``Origin`` does not come from a page.

    Args:
        request: The request that opens the connection.
        allowed_origins: Origins as `normalize_origin` returns them; ``"*"`` among them allows all.
            None allows the server's own pages: the origin's host and port must be those of the
            ``Host`` header (the scheme is not compared, so that a proxy may end TLS).
        require_origin: Whether requests without an ``Origin`` are refused.
    """
    origins = request.headers.get("origin", ())
    if not origins:
        return not require_origin
    if len(origins) > 1:
        return False
    if allowed_origins is not None:
        return "*" in allowed_origins or origins[0] in allowed_origins
    return _is_same_origin(origins[0], request.header("host"))


def normalize_origin(origin: str) -> str:
    """Return an allowed origin as browsers send it (RFC 6454 section 6.2).

    Scheme and host become lower case; a default port and a slash at the end are left out. ``"*"``
    and ``"null"`` stay.

    Raises:
        ValueError: No browser sends such an origin; the text says what to write.
    """
    if origin in ("*", "null"):
        return origin
    example = "an origin is a scheme, a host and maybe a port, such as https://app.example"
    scheme = origin.partition("://")[0]
    if scheme == origin:
        raise ValueError(f"{example}: use {f'https://{origin}'!r} instead of {origin!r}")
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or "*" in host:
        raise ValueError(f"{example}, not {origin!r}; HubConfig.check_origin can decide by pattern")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{example}, not {origin!r}: leave out all else")
    if not host.isascii():
        # Which of several mappings a browser uses is not for us to know (UTS 46 section 4).
        raise ValueError(f"{example}, not {origin!r}: write the host in ASCII, as in xn--nxasmq6b")
    name = f"[{host}]" if ":" in host else host
    is_default = port is None or port == _DEFAULT_PORTS.get(scheme.lower())
    return f"{scheme.lower()}://{name}" + ("" if is_default else f":{port}")


def is_loopback_host(host: str | None) -> bool:
    """Tell whether the value of a ``Host`` header names this machine.

    A server that listens on loopback only is safe from strangers' pages only if it insists on that:
    a stranger's name can be made to resolve to 127.0.0.1 (DNS rebinding), and pages of that name
    then count as the server's own.
    """
    try:
        name = urlsplit(f"//{host or ''}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ip_address(name).is_loopback
    except ValueError:
        return False


def _is_same_origin(origin: str, host: str | None) -> bool:
    try:
        page = urlsplit(origin)
        # The scheme only decides which port a bare host means.
        default_port = _DEFAULT_PORTS[page.scheme]
        server = urlsplit(f"//{host or ''}")
        return (
            page.hostname is not None
            and page.hostname == server.hostname
            and (page.port or default_port) == (server.port or default_port)
        )
    except (KeyError, ValueError):
        return False
