"""The subprotocols that a hub selects, and what a client offers beside them.

A browser cannot set headers on a WebSocket, but it can offer subprotocols. A client that offers
``wshub.bearer, <token>`` presents a token that way. The hub echoes the marker alone, because a
browser fails the connection when nothing is selected, and the token must not come back.

Neither can a page read why a handshake was refused. A client that offers ``wshub.v1`` is told: its
handshake succeeds, and the connection is closed at once with a code that says it.
"""

from http import HTTPStatus

from wshub_core.values.closing import CloseCode
from wshub_core.values.http import Request, Response

BEARER_SUBPROTOCOL = "wshub.bearer"
"""The marker that says: the subprotocol that follows is a token, percent-encoded."""


V1_SUBPROTOCOL = "wshub.v1"
"""The marker that says: tell me refusals as close codes."""


def offered_subprotocols(request: Request) -> list[str]:
    """Return the subprotocols that a client offers, in order (RFC 6455 section 11.3.4)."""
    offered = ",".join(request.headers.get("sec-websocket-protocol", ())).split(",")
    return [name.strip() for name in offered if name.strip()]


def select_subprotocol(request: Request) -> str | None:
    """Return the subprotocol that an accepted connection speaks; None for none."""
    offered = offered_subprotocols(request)
    return next((each for each in (V1_SUBPROTOCOL, BEARER_SUBPROTOCOL) if each in offered), None)


def refusal_as_close(request: Request, refusal: Response) -> tuple[int, str] | None:
    """Return the close code and reason that tell of a refusal; None if a response has to do it."""
    if V1_SUBPROTOCOL not in offered_subprotocols(request):
        return None
    match refusal.status:
        case HTTPStatus.UNAUTHORIZED:
            code = CloseCode.UNAUTHORIZED
        case HTTPStatus.FORBIDDEN:
            code = CloseCode.FORBIDDEN
        case _:
            code = CloseCode.TRY_AGAIN_LATER
    retry_after = refusal.headers.get("Retry-After")
    return code, f"retry-after: {retry_after}" if retry_after else ""
