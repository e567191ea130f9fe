"""The live page as an ASGI 3.0 application, for Starlette, FastAPI and other frameworks."""

from collections.abc import Callable
from dataclasses import replace

from wshub_core.hub import Hub
from wshub_core.transports.asgi_messages import (
    Receive,
    Scope,
    Send,
    path_below_mount,
    read_request,
    redirect_below_mount,
    send_response,
)
from wshub_core.values.http import NOT_FOUND, Request, Response


class LivePageApp:
    """An ASGI application with the page, its files and the hub; see `LivePage.asgi`.

    Args:
        answer: Answers requests for the page, with paths below the mount point; None if the page
            has no such path.
        hub: The hub of the page, which clients connect to at ``ws`` below the mount point.
    """

    def __init__(self, answer: Callable[[Request], Response | None], hub: Hub) -> None:
        self._answer = answer
        self._hub_app = hub.asgi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an HTTP request, a WebSocket or the lifespan, as ASGI specifies."""
        if scope["type"] == "lifespan" or path_below_mount(scope) == "/ws":
            await self._hub_app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # websocket.connect
            await send({"type": "websocket.close"})
        else:
            response = self._respond(scope)
            # The answer to HEAD has the headers of the answer to GET, and no body.
            if scope["method"] == "HEAD":
                length = {"Content-Length": str(len(response.body))}
                response = replace(response, body=b"", headers={**response.headers, **length})
            await send_response(send, "http", response)

    def _respond(self, scope: Scope) -> Response:
        path = path_below_mount(scope)
        if path == "":
            return redirect_below_mount(scope)
        return self._answer(replace(read_request(scope), path=path)) or NOT_FOUND
