"""The live page: shows the channels of a hub in a browser, and follows processes line by line."""

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
from wshub_core.page.directory import MAX_STATUS_LENGTH, ChannelActivity, ChannelDirectory
from wshub_core.values.channels import PROCESS_CHANNEL_PREFIX, is_for_hubs, validate_channel
from wshub_core.values.errors import HubClosedError, MessageTooLargeError, WSHubError
from wshub_core.values.history import HistoryLimits
from wshub_core.values.http import METHOD_NOT_ALLOWED, Request, Response
from wshub_core.values.messages import JSON, Message

PROCESS_HISTORY = HistoryLimits(messages=100_000, bytes=33_554_432, seconds=86_400)
"""The history of the channel of a process, unless the hub has another setting for it."""

_SCRIPTS = (
    *("ansi", "channels", "export", "format", "fragment", "layout", "log", "page", "search"),
    "viewer",
)

_FILES = {
    "/": ("page/files/index.html", "text/html; charset=utf-8"),
    "/page.css": ("page/files/page.css", "text/css; charset=utf-8"),
    **{
        f"/{name}.js": (f"page/files/{name}.js", "text/javascript; charset=utf-8")
        for name in _SCRIPTS
    },
    "/wshub.js": ("browser/wshub.js", "text/javascript; charset=utf-8"),
    "/wshub-sse.js": ("browser/wshub-sse.js", "text/javascript; charset=utf-8"),
}

_HEADERS = {
    # The output of processes is shown as text. If that fails, this policy still runs no script.
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # After an upgrade, the browser must not combine old files with the new server.
    "Cache-Control": "no-cache",
}

PAGE_CHANNEL = "wshub:page"
"""The channel of announcements to open pages: new channels and new process statuses."""

_PRIVATE_CHANNEL = "wshub:private:page"
"""The channel on which the live pages of several hubs synchronize; clients cannot subscribe."""

_ANNOUNCE_SECONDS = 0.2
"""Seconds for which changes are collected before one announcement to the open pages."""

_ANSWER_SECONDS = 0.2
"""Seconds for which requests of other live pages are collected before one answer to all."""

_ACCEPT_SECONDS = 10.0
"""Seconds after its request for which a live page accepts answers."""

_MAX_ANSWER_PARTS = 320
"""Number of answer parts that a live page accepts: the whole directories of 16 other pages."""

_PART_CHANNELS = 50
"""Number of channels in one message: 25 KB if all names have the greatest length."""

_MAX_LISTED = 2_000
"""Number of channels in one answer to ``/channels``."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _DirectoryEntry(msgspec.Struct):
    """One channel in an answer; the fields of `ChannelActivity` that live pages exchange."""

    messages: _Count
    status: Annotated[str, msgspec.Meta(max_length=MAX_STATUS_LENGTH)] | None = None
    exit_code: Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | None = None
    status_at: float = 0.0
    started_at: float | None = None


class _SyncMessage(msgspec.Struct):
    """A message between live pages: a request if ``ask`` is true, otherwise a part of an answer."""

    source: Annotated[str, msgspec.Meta(max_length=64)]
    ask: bool = False
    channels: Annotated[dict[str, _DirectoryEntry], msgspec.Meta(max_length=_PART_CHANNELS)] = {}


class LivePage:
    """A page that lists the channels of a hub and follows them live.

    The page expects the hub at ``ws`` beside it::

        page = LivePage(hub)
        async with hub.serve("localhost", 8080, process_request=page.process_request):
            ...

    In an ASGI application, mount `asgi` instead.

    An open page follows every process from its first line on. The page makes the hub keep a history
    of the channels of processes (100,000 messages, 32 MiB, 24 hours each), unless
    ``HubConfig.history`` has a pattern for them. So a page that is opened later shows the lines
    before. Everyone who can open the page sees the names of the channels. The channel authorizer of
    the hub decides which channels they can follow. With a bridge, `join` makes the page list the
    channels of all hubs.

    Args:
        hub: The hub to show.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._directory = ChannelDirectory()
        self._changed: set[str] = set()
        self._is_announcement_planned = False
        self._source = secrets.token_hex(8)
        self._is_answer_planned = False
        self._accepts_until = 0.0
        self._parts_left = 0
        hub.keep_history(f"{PROCESS_CHANNEL_PREFIX}*", PROCESS_HISTORY)
        hub.add_publish_listener(self._record)
        folder = files("wshub_core")
        self._responses = {
            path: Response(HTTPStatus.OK, (folder / name).read_bytes(), _HEADERS, content_type)
            for path, (name, content_type) in _FILES.items()
        }

    def process_request(self, request: Request) -> Response | None:
        """Answer a request for the page; return None for any other path.

        ``/channels`` is the list of channels as JSON: channels with recent messages, and channels
        with subscribers, at most 2,000. All times in it are Unix times in seconds. HEAD gets the
        same answer as GET; the server omits the body.
        """
        if request.path != "/channels" and request.path not in self._responses:
            return None
        if request.method not in ("GET", "HEAD"):
            return METHOD_NOT_ALLOWED
        if request.path == "/channels":
            content = msgspec.json.encode({"channels": self._list_channels()})
            return Response(HTTPStatus.OK, content, _HEADERS, "application/json")
        return self._responses[request.path]

    def asgi(self) -> LivePageApp:
        """Return an ASGI application with the page, its files, and the hub at ``ws`` below it.

        ``app.mount("/live", page.asgi())`` of Starlette or FastAPI puts the page at ``/live/``.
        Enter the hub in your application's lifespan. If this is the outermost application, it
        enters the hub itself.
        """
        return LivePageApp(self.process_request, self._hub)

    async def join(self) -> None:
        """List the channels of all hubs that a bridge joins.

        The hub then reads every message of the fleet; see `Hub.subscribe_all`. Other live pages
        that have joined report the channels that were published to before. Call this method after
        the hub has been entered and has its bridge.

        Raises:
            HubNotStartedError: The hub has not been entered yet.
            HubClosedError: The hub has been closed.
        """
        await self._hub.subscribe_all()
        self._accepts_until = self._hub.clock.time() + _ACCEPT_SECONDS
        self._parts_left = _MAX_ANSWER_PARTS
        self._publish(_PRIVATE_CHANNEL, {"source": self._source, "ask": True})

    # Messages that reach the hub.

    def _record(self, channel: str, message: Message) -> None:
        """Record a message before its delivery."""
        if is_for_hubs(channel):
            if channel == _PRIVATE_CHANNEL:
                self._receive_sync(message)
            return
        recorded = self._directory.record(channel, message)
        # Pages read the first lines from the history of the channel. Without a history, the hub
        # subscribes them: this method is called before the delivery, so that they receive the first
        # line too. Once for each run: a page that has left the channel since is not subscribed
        # again.
        if (
            recorded.begins
            and channel.startswith(PROCESS_CHANNEL_PREFIX)
            and not self._has_history(channel)
        ):
            for connection in self._hub.subscribers(PAGE_CHANNEL):
                self._hub.subscribe_nowait(connection, channel)
        if recorded.is_new:
            self._announce([channel])
        elif recorded.has_new_status:
            self._announce_soon([channel])

    # Announcements to open pages.

    def _announce_soon(self, channels: Iterable[str]) -> None:
        self._changed.update(channels)
        if self._changed and not self._is_announcement_planned:
            self._is_announcement_planned = True
            self._hub.clock.call_at(
                self._hub.clock.time() + _ANNOUNCE_SECONDS, self._announce_changes
            )

    def _announce_changes(self) -> None:
        self._is_announcement_planned = False
        changed = iter(self._changed)
        self._changed = set()
        while part := list(islice(changed, _PART_CHANNELS)):
            self._announce(part)

    def _announce(self, channels: Iterable[str]) -> None:
        if self._hub.subscriber_count(PAGE_CHANNEL) > 0:
            data = {"channels": [self._describe(channel) for channel in channels]}
            self._publish(PAGE_CHANNEL, data, local_only=True)

    def _list_channels(self) -> list[dict[str, object]]:
        names = set(self._directory.channels)
        # The number of channels with subscribers has no bound: a client can subscribe to any name.
        others = (name for name in self._hub.channels if not is_for_hubs(name))
        names.update(islice(others, _MAX_LISTED - len(names)))
        return [self._describe(name) for name in sorted(names)]

    def _describe(self, channel: str) -> dict[str, object]:
        activity = self._directory.activity(channel)
        return {
            "channel": channel,
            "subscribers": self._hub.subscriber_count(channel),
            "messages": activity.message_count,
            "status": activity.status,
            "exitCode": activity.exit_code,
            "statusAt": None if activity.status is None else activity.status_at,
            "startedAt": activity.started_at,
            "history": self._has_history(channel),
        }

    def _has_history(self, channel: str) -> bool:
        try:
            return self._hub.bridge_port.history_limits(channel) is not None
        except WSHubError:
            return False  # the hub does not run

    # Synchronization of the live pages of several hubs.

    def _receive_sync(self, message: Message) -> None:
        """Serve a request or an answer of another live page; ignore an invalid message."""
        # Any program that can write to the bridge's broker can send here.
        try:
            sync = msgspec.convert(message.data, _SyncMessage)
            for channel in sync.channels:
                validate_channel(channel)
        except (msgspec.ValidationError, WSHubError):
            return
        if sync.source == self._source:
            return
        if sync.ask:
            self._answer_soon()
        elif self._hub.clock.time() < self._accepts_until and self._parts_left > 0:
            self._parts_left -= 1
            now = time()
            self._announce_soon(
                self._directory.merge(
                    {
                        channel: ChannelActivity(
                            entry.messages,
                            entry.status,
                            entry.exit_code,
                            # A status from a clock that is ahead would outlast all later statuses.
                            min(entry.status_at, now),
                            entry.started_at,
                        )
                        for channel, entry in sync.channels.items()
                        if not is_for_hubs(channel)
                    }
                )
            )

    def _answer_soon(self) -> None:
        if not self._is_answer_planned:
            self._is_answer_planned = True
            self._hub.clock.call_at(self._hub.clock.time() + _ANSWER_SECONDS, self._answer)

    def _answer(self) -> None:
        self._is_answer_planned = False
        for part in self._directory.snapshot(_PART_CHANNELS):
            channels = {
                channel: _DirectoryEntry(
                    activity.message_count,
                    activity.status,
                    activity.exit_code,
                    activity.status_at,
                    activity.started_at,
                )
                for channel, activity in part.items()
            }
            self._publish(_PRIVATE_CHANNEL, {"source": self._source, "channels": channels})

    def _publish(self, channel: str, data: JSON, *, local_only: bool = False) -> None:
        # With a very small max_message_bytes there are no announcements. The list at ``/channels``
        # is complete all the same.
        with suppress(HubClosedError, MessageTooLargeError):
            self._hub.publish(channel, Message(type="page", data=data), local_only=local_only)
