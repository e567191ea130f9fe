"""The live page: shows a hub's channels in a browser, and follows processes line by line."""

from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from wshub_core.state.directory import ChannelDirectory
from wshub_core.values.http import Request, Response

if TYPE_CHECKING:
    from wshub_core.runtime.hub import Hub

_FILES = {
    "/": ("edges/page_files/index.html", "text/html; charset=utf-8"),
    "/page.css": ("edges/page_files/page.css", "text/css; charset=utf-8"),
    "/page.js": ("edges/page_files/page.js", "text/javascript; charset=utf-8"),
    "/ansi.js": ("edges/page_files/ansi.js", "text/javascript; charset=utf-8"),
    "/wshub.js": ("browser/wshub.js", "text/javascript; charset=utf-8"),
}

_HEADERS = {
    # What processes print is shown as text, and should that ever fail, no script runs.
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # The page and the server it talks to are of one version, also after an upgrade.
    "Cache-Control": "no-cache",
}


class LivePage:
    """A page that lists a hub's channels and follows them live.

    It expects the hub at ``/ws`` beside it::

        page = LivePage(hub)
        async with hub.serve("localhost", 8080, process_request=page.process_request):
            ...

    Everyone who can open the page sees the names of the channels. What they can follow is decided
    by the hub.

    Args:
        hub: The hub to show.
    """

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._directory = ChannelDirectory()
        hub.add_publish_listener(self._directory.record)
        folder = files("wshub_core")
        self._responses = {
            path: Response(HTTPStatus.OK, (folder / name).read_bytes(), _HEADERS, content_type)
            for path, (name, content_type) in _FILES.items()
        }

    def process_request(self, request: Request) -> Response | None:
        """Answer a request for the page; None for what does not belong to it.

        ``/channels`` is the list of channels, those that have subscribers and those that were
        published to of late, as JSON.
        """
        if request.method != "GET":
            return None
        if request.path == "/channels":
            return Response(
                HTTPStatus.OK,
                msgspec.json.encode({"channels": self._channels()}),
                _HEADERS,
                "application/json",
            )
        return self._responses.get(request.path)

    def _channels(self) -> list[dict[str, object]]:
        names = sorted({*self._directory.channels, *self._hub.channels})
        return [
            {
                "channel": name,
                "subscribers": self._hub.subscriber_count(name),
                "messages": (activity := self._directory.activity(name)).messages,
                "status": activity.status,
                "exitCode": activity.exit_code,
            }
            for name in names
        ]
