"""The live page: shows a hub's channels in a browser, and follows processes line by line."""

import secrets
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from importlib.resources import files
from itertools import islice
from time import time
from typing import Annotated

import msgspec

from wshub_core.hub import Hub
from wshub_core.page.app import LivePageApp
from wshub_core.page.directory import LONGEST_STATUS, ChannelActivity, ChannelDirectory
from wshub_core.values.channels import PROCESS_CHANNEL_PREFIX, is_for_hubs, validate_channel
from wshub_core.values.errors import HubClosedError, MessageTooLargeError, WSHubError
from wshub_core.values.http import METHOD_NOT_ALLOWED, Request, Response
from wshub_core.values.messages import JSON, Message

_FILES = {
    "/": ("page/files/index.html", "text/html; charset=utf-8"),
    "/page.css": ("page/files/page.css", "text/css; charset=utf-8"),
    "/page.js": ("page/files/page.js", "text/javascript; charset=utf-8"),
    "/ansi.js": ("page/files/ansi.js", "text/javascript; charset=utf-8"),
    "/wshub.js": ("browser/wshub.js", "text/javascript; charset=utf-8"),
}

_HEADERS = {
    # What processes print is shown as text, and should that ever fail, no script runs.
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # The page and the server it talks to are of one version, also after an upgrade.
    "Cache-Control": "no-cache",
}

PAGE_CHANNEL = "wshub:page"
"""Open pages subscribe to this channel; it tells them about new channels and process statuses."""

_PRIVATE_CHANNEL = "wshub:private:page"
"""Live pages of several hubs ask and answer each other here; clients cannot subscribe to it."""

_TELL_SECONDS = 0.2
"""How long changes are collected before the open pages are told."""

_ANSWER_SECONDS = 0.2
"""How long requests of other live pages are collected before they are answered together."""

_ACCEPT_SECONDS = 10.0
"""How long after its request a live page takes answers."""

_MOST_PARTS = 320
"""How many parts of answers a live page takes: the whole directories of 16 others."""

_PART_CHANNELS = 50
"""How many channels one message tells about: 20 KB if all names are as long as they can be."""

_MOST_LISTED = 2_000
"""The most channels in one answer to ``/channels``."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Shared(msgspec.Struct):
    """What a live page tells another one about a channel."""

    messages: _Count
    status: Annotated[str, msgspec.Meta(max_length=LONGEST_STATUS)] | None = None
    exit_code: Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | None = None
    status_at: float = 0.0


class _News(msgspec.Struct):
    """A request of a live page, with ``ask``, or a part of an answer."""

    source: Annotated[str, msgspec.Meta(max_length=64)]
    ask: bool = False
    channels: Annotated[dict[str, _Shared], msgspec.Meta(max_length=_PART_CHANNELS)] = {}


class LivePage:
    """A page that lists a hub's channels and follows them live.

    It expects the hub at ``ws`` beside it::

        page = LivePage(hub)
        async with hub.serve("localhost", 8080, process_request=page.process_request):
            ...

    In an ASGI application, mount `asgi` instead.

    A page that is open follows every process from its first line on. Everyone who can open the
    page sees the names of the channels; the hub decides what they can follow. With a bridge, `join`
    makes the page list the channels of all hubs.

    Args:
        hub: The hub to show.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._directory = ChannelDirectory()
        self._changed: set[str] = set()
        self._is_telling = False
        self._source = secrets.token_hex(8)
        self._is_answering = False
        self._accepts_until = 0.0
        self._parts_left = 0
        hub.add_publish_listener(self._record)
        folder = files("wshub_core")
        self._responses = {
            path: Response(HTTPStatus.OK, (folder / name).read_bytes(), _HEADERS, content_type)
            for path, (name, content_type) in _FILES.items()
        }

    def process_request(self, request: Request) -> Response | None:
        """Answer a request for the page; None for a path that is not the page's.

        ``/channels`` is the list of channels as JSON: those that were published to of late, and
        those that have subscribers, at most 2,000. The answer to HEAD is that to GET; servers leave
        its body out.
        """
        if request.path != "/channels" and request.path not in self._responses:
            return None
        if request.method not in ("GET", "HEAD"):
            return METHOD_NOT_ALLOWED
        if request.path == "/channels":
            content = msgspec.json.encode({"channels": self._list()})
            return Response(HTTPStatus.OK, content, _HEADERS, "application/json")
        return self._responses[request.path]

    def asgi(self) -> LivePageApp:
        """Return an ASGI application with the page, its files, and the hub at ``ws`` below it.

        ``app.mount("/live", page.asgi())`` of Starlette or FastAPI puts the page at ``/live/``.
        Enter the hub in your application's lifespan. As the outermost application it enters the hub
        itself.
        """
        return LivePageApp(self.process_request, self._hub)

    async def join(self) -> None:
        """List the channels of all hubs that a bridge joins.

        The hub then reads every message of the fleet, see `Hub.subscribe_all`. What was published
        before, the live pages of the other hubs tell, if they have joined. Call this after the hub
        has been entered and has its bridge.

        Raises:
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        await self._hub.subscribe_all()
        self._accepts_until = self._hub.clock.time() + _ACCEPT_SECONDS
        self._parts_left = _MOST_PARTS
        self._publish(_PRIVATE_CHANNEL, {"source": self._source, "ask": True})

    # What is published.

    def _record(self, channel: str, message: Message) -> None:
        """Note a message, before it is delivered."""
        if is_for_hubs(channel):
            if channel == _PRIVATE_CHANNEL:
                self._take_news(message)
            return
        recorded = self._directory.record(channel, message)
        # Once per run: a page that has left the channel meanwhile does not get it back.
        if recorded.begins and channel.startswith(PROCESS_CHANNEL_PREFIX):
            for connection in self._hub.subscribers(PAGE_CHANNEL):
                self._hub.subscribe_nowait(connection, channel)
        if recorded.is_new:
            self._tell([channel])
        elif recorded.has_new_status:
            self._tell_soon([channel])

    # What open pages are told.

    def _tell_soon(self, channels: Iterable[str]) -> None:
        self._changed.update(channels)
        if self._changed and not self._is_telling:
            self._is_telling = True
            self._hub.clock.call_at(self._hub.clock.time() + _TELL_SECONDS, self._tell_changes)

    def _tell_changes(self) -> None:
        self._is_telling = False
        changed = iter(self._changed)
        self._changed = set()
        while part := list(islice(changed, _PART_CHANNELS)):
            self._tell(part)

    def _tell(self, channels: Iterable[str]) -> None:
        if self._hub.subscriber_count(PAGE_CHANNEL) > 0:
            data = {"channels": [self._describe(channel) for channel in channels]}
            self._publish(PAGE_CHANNEL, data, local_only=True)

    def _list(self) -> list[dict[str, object]]:
        names = set(self._directory.channels)
        # Whoever can subscribe can make up names without end.
        others = (name for name in self._hub.channels if not is_for_hubs(name))
        names.update(islice(others, _MOST_LISTED - len(names)))
        return [self._describe(name) for name in sorted(names)]

    def _describe(self, channel: str) -> dict[str, object]:
        activity = self._directory.activity(channel)
        return {
            "channel": channel,
            "subscribers": self._hub.subscriber_count(channel),
            "messages": activity.message_count,
            "status": activity.status,
            "exitCode": activity.exit_code,
        }

    # What live pages of several hubs tell each other.

    def _take_news(self, message: Message) -> None:
        """Take a request or an answer of another live page, or junk: Redis has other writers."""
        try:
            news = msgspec.convert(message.data, _News)
            for channel in news.channels:
                validate_channel(channel)
        except (msgspec.ValidationError, WSHubError):
            return
        if news.source == self._source:
            return
        if news.ask:
            self._answer_soon()
        elif self._hub.clock.time() < self._accepts_until and self._parts_left > 0:
            self._parts_left -= 1
            now = time()
            self._tell_soon(
                self._directory.merge(
                    {
                        channel: ChannelActivity(
                            shared.messages,
                            shared.status,
                            shared.exit_code,
                            # A clock that is ahead does not make a status last for ever.
                            min(shared.status_at, now),
                        )
                        for channel, shared in news.channels.items()
                        if not is_for_hubs(channel)
                    }
                )
            )

    def _answer_soon(self) -> None:
        if not self._is_answering:
            self._is_answering = True
            self._hub.clock.call_at(self._hub.clock.time() + _ANSWER_SECONDS, self._answer)

    def _answer(self) -> None:
        self._is_answering = False
        for part in self._directory.snapshot(_PART_CHANNELS):
            channels = {
                channel: _Shared(
                    activity.message_count, activity.status, activity.exit_code, activity.status_at
                )
                for channel, activity in part.items()
            }
            self._publish(_PRIVATE_CHANNEL, {"source": self._source, "channels": channels})

    def _publish(self, channel: str, data: JSON, *, local_only: bool = False) -> None:
        # A hub with a tiny max_message_bytes does without news; `/channels` has everything.
        with suppress(HubClosedError, MessageTooLargeError):
            self._hub.publish(channel, Message(type="page", data=data), local_only=local_only)
