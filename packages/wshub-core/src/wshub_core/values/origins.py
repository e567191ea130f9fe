"""Which pages may connect: the rule on the ``Origin`` header (RFC 6454, RFC 6455 section 10.2).

Browsers send ``Origin`` and let any page open a WebSocket to any server, with the user's cookies.
The server has to refuse strangers itself.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from wshub_core.values.http import Request


def origin_allowed(
    request: Request, allowed_origins: Collection[str] | None, *, require_origin: bool = False
) -> bool:
    """Tell whether a request may open a connection, judged by its origin.

    A request without ``Origin`` does not come from a page.

    Args:
        request: The request that opens the connection.
        allowed_origins: Origins as browsers send them, such as ``https://app.example``; ``"*"``
            among them allows all. None allows the server's own pages: the origin's host and port
            must be those of the ``Host`` header (the scheme is not compared, so that a proxy may
            end TLS).
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
        default_port = {"http": 80, "https": 443}[page.scheme]
        server = urlsplit(f"//{host or ''}")
        return (
            page.hostname is not None
            and page.hostname == server.hostname
            and (page.port or default_port) == (server.port or default_port)
        )
    except (KeyError, ValueError):
        return False
