"""The subprotocols of a hub: markers with which a client asks for a feature.

A page cannot set headers on a WebSocket, but it can offer subprotocols. A client that offers
``wshub.bearer, <token>`` presents a token. The hub selects only the marker: a browser fails the
connection if no offered subprotocol is selected, and the token must not be sent back.

A page also cannot read the status of a refused handshake. For a client that offers ``wshub.v1``,
the hub completes the handshake and closes the connection at once with a close code for the refusal.
"""

from http import HTTPStatus

from wshub_core.values.closing import CloseCode
from wshub_core.values.http import DrainingResponse, Request, Response

BEARER_SUBPROTOCOL = "wshub.bearer"
"""The marker before a token. The next subprotocol is the token, percent-encoded."""

V1_SUBPROTOCOL = "wshub.v1"
"""The marker with which a client asks for close codes instead of HTTP responses for refusals."""


def offered_subprotocols(request: Request) -> list[str]:
    """Return the subprotocols that a client offers, in order (RFC 6455 section 11.3.4)."""
    offered = ",".join(request.headers.get("sec-websocket-protocol", ())).split(",")
    return [name.strip() for name in offered if name.strip()]


def select_subprotocol(request: Request) -> str | None:
    """Return the subprotocol that the hub selects for an accepted connection, or None."""
    offered = offered_subprotocols(request)
    return next((each for each in (V1_SUBPROTOCOL, BEARER_SUBPROTOCOL) if each in offered), None)


def refusal_as_close(request: Request, refusal: Response) -> tuple[int, str] | None:
    """Return the close code and the close reason for a refusal.

    Return None if the hub sends the response: the client did not ask for close codes, or the hub is
    being drained.
    """
    is_for_proxies = isinstance(refusal, DrainingResponse)
    if is_for_proxies or V1_SUBPROTOCOL not in offered_subprotocols(request):
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
