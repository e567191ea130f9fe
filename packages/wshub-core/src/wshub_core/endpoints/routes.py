"""Routes: the ASGI applications of one server, by path."""

from collections.abc import Callable, Mapping

from wshub_core.transports.asgi_messages import (
    ASGIApp,
    Receive,
    Scope,
    Send,
    read_request,
    send_response,
)
from wshub_core.values.http import NOT_FOUND, Request, Response


class Routes:
    """An ASGI application that passes each request on to the application of its path.

    Args:
        apps: The applications. A path stands for itself only, because proxies refuse such paths one
            by one. With ``/*`` at its end, it also stands for all paths below; the longest one
            counts. An application gets the path of its route as ``root_path``.
        answer: Answers the requests for all other paths; None stands for status 404.
        admit: Returns the response to a request that no application may get, or None.
    """

    def __init__(
        self,
        apps: Mapping[str, ASGIApp],
        answer: Callable[[Request], Response | None],
        admit: Callable[[Request], Response | None],
    ) -> None:
        self._apps = dict(sorted(apps.items(), key=lambda item: -len(item[0])))
        self._answer = answer
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an HTTP request, as ASGI specifies."""
        request = read_request(scope)
        refusal = self._admit(request)
        if refusal is not None:
            await send_response(send, "http", refusal)
            return
        path: str = scope["path"]
        for route, app in self._apps.items():
            prefix = route.removesuffix("/*")
            if path == prefix or (prefix != route and path.startswith(f"{prefix}/")):
                await app({**scope, "root_path": prefix}, receive, send)
                return
        await send_response(send, "http", self._answer(request) or NOT_FOUND)
