"""The one subprotocol that a hub selects, and what a client offers beside it.

A browser cannot set headers on a WebSocket, but it can offer subprotocols. A client that offers
``wshub.bearer, <token>`` presents a token that way. The hub echoes the marker alone, because a
browser fails the connection when nothing is selected, and the token must not come back.
"""

from wshub_core.values.http import Request

BEARER_SUBPROTOCOL = "wshub.bearer"
"""The marker that says: the subprotocol that follows is a token, percent-encoded."""


def offered_subprotocols(request: Request) -> list[str]:
    """Return the subprotocols that a client offers, in order (RFC 6455 section 11.3.4)."""
    offered = ",".join(request.headers.get("sec-websocket-protocol", ())).split(",")
    return [name.strip() for name in offered if name.strip()]


def select_subprotocol(request: Request) -> str | None:
    """Return the subprotocol that an accepted connection speaks; None for none."""
    return BEARER_SUBPROTOCOL if BEARER_SUBPROTOCOL in offered_subprotocols(request) else None
