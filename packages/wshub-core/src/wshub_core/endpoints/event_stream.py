"""The event stream: the messages of channels for clients that speak plain HTTP."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import parse_qsl, quote

from wshub_core.connections.running_hub import RunningHub
from wshub_core.logs import get_logger
from wshub_core.protocol.event_ids import read_event_id
from wshub_core.transports.asgi_messages import (
    Receive,
    Scope,
    Send,
    is_http,
    read_request,
    send_response,
)
from wshub_core.transports.asgi_transport import NOT_RUNNING, admit
from wshub_core.transports.event_stream import EventStreamTransport, make_start
from wshub_core.values.channels import validate_channel
from wshub_core.values.errors import (
    HubClosedError,
    HubNotStartedError,
    InvalidChannelError,
    InvalidHistoryRequestError,
    InvalidProcessIDError,
)
from wshub_core.values.http import Request, Response
from wshub_core.values.subprotocols import BEARER_SUBPROTOCOL

logger = get_logger("wshub.event_stream")

_MAX_CHANNELS = 100
"""Number of channels of one stream. Ids have an entry for each, and must fit into a header."""

_MAX_PARAMETERS = 1_000
"""Number of query parameters above which a query is not read."""

_METHOD_NOT_ALLOWED = Response(405, b"Method Not Allowed\n", {"Allow": "GET, HEAD, OPTIONS"})

_PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "Authorization, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}


class EventStreamApp:
    """An ASGI application whose responses are event streams of a hub; see `Hub.sse`.

    It serves every path, because the application that mounts it chooses the path.

    Args:
        get_hub: Returns the running hub; raises an error if the hub is not running.
    """

    def __init__(self, get_hub: Callable[[], RunningHub]) -> None:
        self._get_hub = get_hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an HTTP request, as ASGI specifies; refuse a WebSocket."""
        if not await is_http(scope, receive, send):
            return
        request = read_request(scope)
        try:
            hub = self._get_hub()
        except (HubNotStartedError, HubClosedError) as error:
            logger.error("a client was refused: %s", error)
            await send_response(send, "http", NOT_RUNNING)
            return
        if request.method in ("GET", "HEAD"):
            await self._serve(hub, request, receive, send)
        elif request.method == "OPTIONS":
            refusal = hub.admission.check_before_auth(request)
            headers = {**_cors_headers(request), **_PREFLIGHT_HEADERS}
            await send_response(send, "http", refusal or Response(200, headers=headers))
        else:
            await send_response(send, "http", _METHOD_NOT_ALLOWED)

    async def _serve(self, hub: RunningHub, request: Request, receive: Receive, send: Send) -> None:
        identity, context = await admit(hub, _offer_token(request))
        cors = _cors_headers(request)
        if isinstance(identity, Response):
            # A page of a foreign origin must not read its refusal.
            readable = {} if identity.status == HTTPStatus.FORBIDDEN else cors
            await send_response(send, "http", _add_headers(identity, readable))
            return
        try:
            channels, event_id = _read_query(request)
            requests = read_event_id(event_id, len(channels))
        except (InvalidHistoryRequestError, ValueError) as error:
            hub.admission.note_refusal(
                400, "invalid_request", request.remote_address, request.path, str(error)
            )
            await send_response(send, "http", Response(400, f"{error}\n".encode(), cors))
            return
        # Other clients may have connected since the end of the admission.
        if (refusal := hub.admission.check_room(request)) is not None:
            await send_response(send, "http", _add_headers(refusal, cors))
        elif request.method == "HEAD":
            await send(make_start(200, cors))
            await send({"type": "http.response.body"})
        else:
            transport = EventStreamTransport(hub, receive, send, channels, requests, cors)
            await transport.run(request.remote_address, identity, context)


def _read_query(request: Request) -> tuple[tuple[str, ...], str]:
    """Return the channels and the event id of a request.

    Raises:
        ValueError: There are too many parameters or channels, or no channel is valid.
    """
    pairs = parse_qsl(request.query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    channels = tuple(dict.fromkeys(value for name, value in pairs if name == "channel"))
    if len(channels) > _MAX_CHANNELS:
        raise ValueError(f"{len(channels)} channels, the limit is {_MAX_CHANNELS}")
    if channels and not any(map(_is_valid, channels)):
        raise ValueError("no channel has a valid name")
    # A browser repeats the URL when it connects again, and adds the header.
    event_id = request.header("last-event-id")
    if event_id is None:
        event_id = next((value for name, value in pairs if name == "last_event_id"), "")
    return channels, event_id


def _is_valid(channel: str) -> bool:
    try:
        validate_channel(channel)
    except (InvalidChannelError, InvalidProcessIDError):
        return False
    return True


def _offer_token(request: Request) -> Request:
    """Return a request with its bearer token in the place where pages present it, too.

    A page can set this header here, and cannot set it on a WebSocket. A hub that authenticates
    pages by subprotocols gets the same token from both.
    """
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or "sec-websocket-protocol" in request.headers:
        return request
    # The octets of the header, as the client has sent them.
    offer = f"{BEARER_SUBPROTOCOL}, {quote(token.strip().encode('latin-1'), safe='')}"
    headers = {**request.headers, "sec-websocket-protocol": (offer,)}
    return replace(request, headers=headers)


def _add_headers(response: Response, headers: Mapping[str, str]) -> Response:
    return replace(response, headers={**response.headers, **headers})


def _cors_headers(request: Request) -> Mapping[str, str]:
    """Return the headers that let a page of an allowed origin read a response (Fetch, 3.2.3)."""
    origin = request.header("origin")
    if origin is None:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "Retry-After",
        "Vary": "Origin",
    }
