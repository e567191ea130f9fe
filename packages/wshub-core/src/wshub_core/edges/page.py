"""The live page: shows a hub's channels in a browser, and follows processes line by line."""

import secrets
from contextlib import suppress
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from wshub_core.state.directory import ChannelActivity, ChannelDirectory
from wshub_core.values.errors import HubClosedError
from wshub_core.values.http import Request, Response
from wshub_core.values.messages import Message

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


_CHANNEL = "wshub:page"
"""Where pages of several hubs tell each other what was published on theirs."""

_SHARE_SECONDS = 0.5
"""How long changes are collected before they are told."""

_MOST_CHANGES = 50
"""How many channels one message tells about, so that it does not get too large."""


class _News(msgspec.Struct):
    """What a page tells the others; with ``ask`` it wants to know what they know."""

    source: str
    channels: dict[str, ChannelActivity] = {}
    ask: bool = False


class LivePage:
    """A page that lists a hub's channels and follows them live.

    It expects the hub at ``/ws`` beside it::

        page = LivePage(hub)
        async with hub.serve("localhost", 8080, process_request=page.process_request):
            ...

    Everyone who can open the page sees the names of the channels. What they can follow is decided
    by the hub. With a bridge, `join` has the page list the channels of all hubs.

    Args:
        hub: The hub to show.
    """

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._directory = ChannelDirectory()
        self._source = secrets.token_hex(8)
        self._has_joined = False
        self._is_sharing = False
        hub.add_publish_listener(self._record)
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

    async def join(self) -> None:
        """List what is published on other hubs, too, as far as their pages have joined.

        The hub has been entered by then and has its bridge.

        Raises:
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        self._has_joined = True
        await self._hub.manager.bridging.listen(_CHANNEL, self._take_news)
        self._tell(_News(self._source, ask=True))

    def _record(self, channel: str, message: Message) -> None:
        if channel != _CHANNEL:
            self._directory.record(channel, message)
            self._share_soon()

    def _share_soon(self) -> None:
        if self._has_joined and not self._is_sharing and self._directory.has_changes:
            self._is_sharing = True
            self._hub.clock.call_at(self._hub.clock.time() + _SHARE_SECONDS, self._share)

    def _share(self) -> None:
        self._is_sharing = False
        self._tell(_News(self._source, self._directory.take_changes(_MOST_CHANGES)))
        self._share_soon()

    def _tell(self, news: _News) -> None:
        with suppress(HubClosedError):
            self._hub.publish(_CHANNEL, Message(type="page", data=news))

    def _take_news(self, message: Message) -> None:
        try:
            news = msgspec.convert(message.data, _News)
        except msgspec.ValidationError:
            return  # whoever that was, it was no page
        if news.source == self._source:
            return
        self._directory.learn(news.source, news.channels)
        if news.ask:
            self._directory.change_all()
            self._share_soon()

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
