"""Recovery: the messages of a history for a new subscriber, and the change to live messages."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.delivery import Delivery
from wshub_core.connections.publishing import Publishing
from wshub_core.history.histories import Histories
from wshub_core.loop.tasks import Tasks
from wshub_core.protocol.prepared import PreparedPage
from wshub_core.protocol.recovery import (
    HistoryRequest,
    RecoveryPlan,
    describe_plan,
    plan_recovery,
)
from wshub_core.protocol.registry import Registry
from wshub_core.protocol.stream import Stream
from wshub_core.values.closing import CloseCode, DisconnectCause
from wshub_core.values.errors import HistoryUnavailableError
from wshub_core.values.history import HistoryLimits

_PAGE_MESSAGES = 1_000
"""Maximum number of messages of one page."""

_PAGE_BYTES = 262_144
"""Maximum size of one page in bytes; a client gets the next page when it has taken this one."""

_KEPT_PAGES = 8
"""Number of pages that are kept for other clients which recover from the same positions."""

_IDLE_CHECKS = 100
"""Number of checks whether frames of the client wait, before the first page is sent anyway."""

_IDLE_CHECK_SECONDS = 0.01
"""Time in seconds between two of these checks."""

_MAX_LOADS = 3
"""Number of loads of older messages for one request. Loaded messages may be removed at once, if the
memory for histories is full."""

Answer: TypeAlias = Callable[[dict[str, Any]], None]
"""Sends the answer to a subscribe frame, with these fields in its ``data``."""

_CloseConnection: TypeAlias = Callable[[ServerConnection, DisconnectCause, int, str], bool]


class Recovery:
    """Sends subscribers the history that they ask for, and then the live messages.

    The subscription is paused while messages of the history are sent. Each page waits until the
    client has taken the page before it. When the client has all messages of the stream, its
    subscription is resumed in the same step, so between history and live messages nothing is lost,
    doubled or reordered.

    Args:
        registry: The hub's connections and their subscriptions.
        histories: The histories of the hub.
        delivery: Delivers messages to connections.
        publishing: Sends messages to one connection.
        tasks: The tasks of the hub.
        close: Ends a connection that is too slow for the history.
        max_outbox_bytes: Maximum size of the data that waits for a connection.
    """

    def __init__(
        self,
        registry: Registry[ServerConnection],
        histories: Histories,
        delivery: Delivery,
        publishing: Publishing,
        tasks: Tasks,
        close: _CloseConnection,
        max_outbox_bytes: int,
    ) -> None:
        self._registry = registry
        self._histories = histories
        self._delivery = delivery
        self._publishing = publishing
        self._tasks = tasks
        self._close = close
        # A page must leave room in the outbox for the messages of other channels.
        self._page_bytes = min(_PAGE_BYTES, max_outbox_bytes // 4)
        self._pages: dict[tuple[str, str, int, int], PreparedPage] = {}
        # The running replay of each paused subscription. A later request replaces it.
        self._replays: dict[tuple[ServerConnection, str], _Replay] = {}

    def pause(self, connection: ServerConnection, channel: str) -> None:
        """Hold the live messages back from a subscriber, until `start` has sent the history."""
        self._registry.pause(connection, channel)
        self._replays.pop((connection, channel), None)

    async def start(
        self,
        connection: ServerConnection,
        channel: str,
        limits: HistoryLimits,
        request: HistoryRequest | None,
        answer: Answer,
    ) -> None:
        """Answer a subscriber, and start to send what it asks for.

        Args:
            connection: The connection, which is subscribed.
            channel: The channel.
            limits: The size of the history.
            request: The request; None for live messages only.
            answer: Sends the answer.
        """
        # Again, because the subscription may have been live during an outage of the bridge.
        self.pause(connection, channel)
        try:
            stream, first, plan = await self._open(channel, limits, request)
        except HistoryUnavailableError:
            self._registry.resume(connection, channel)
            unavailable = {"reason": "unavailable"}
            answer(unavailable if request is None else {"recovered": False} | unavailable)
            return
        if not self._registry.is_paused(connection, channel):
            return
        after = stream.offset if plan is None else plan.after
        position = {"epoch": stream.epoch, "offset": stream.offset, "first": first, "after": after}
        answer(position if plan is None else position | describe_plan(plan))
        replay = _Replay(connection, channel, limits, stream.epoch, after)
        self._replays[connection, channel] = replay
        if after == stream.offset:
            self._end(replay)
        else:
            self._tasks.spawn(self._send_pages(replay))

    async def _open(
        self, channel: str, limits: HistoryLimits, request: HistoryRequest | None
    ) -> tuple[Stream, int, RecoveryPlan | None]:
        """Return the stream, the offset of the oldest kept message, and what to send."""
        form = self._histories.form
        for _ in range(_MAX_LOADS):
            opened = form.open(channel, limits)
            stream = await opened if isinstance(opened, Coroutine) else opened
            first = form.first_kept(channel, stream)
            if request is None:
                return stream, first, None
            plan = plan_recovery(request, stream.epoch, first, stream.offset)
            loading = form.load(channel, plan.after)
            if loading is None:
                return stream, first, plan
            await loading
        raise HistoryUnavailableError("the memory for histories is full")

    async def _send_pages(self, replay: "_Replay") -> None:
        """Send the pages, each when the client has taken the messages before it."""
        # The answers to all waiting frames come first. A client that restores many subscriptions
        # waits for the pong behind them.
        for _ in range(_IDLE_CHECKS):
            if not replay.connection.has_waiting_frames:
                break
            await asyncio.sleep(_IDLE_CHECK_SECONDS)
        while True:
            await self._delivery.wait_drained(replay.connection)
            try:
                opened = self._histories.form.open(replay.channel, replay.limits)
                stream = await opened if isinstance(opened, Coroutine) else opened
            except HistoryUnavailableError:
                # The client's position is behind the stream. The notice that follows the outage, or
                # the next message, tells it to ask again.
                self._end(replay)
                return
            if self._advance(replay, stream):
                return

    def _advance(self, replay: "_Replay", stream: Stream) -> bool:
        """Send the next page; return whether the replay is over."""
        connection, channel = replay.connection, replay.channel
        if self._replays.get((connection, channel)) is not replay:
            return True  # a later request has replaced it
        if not self._registry.is_paused(connection, channel):
            self._end(replay)  # the client has unsubscribed, or has gone
            return True
        if stream.epoch != replay.epoch:
            # The client learns that its position is outdated, and asks again.
            self._end(replay)
            self._publishing.send_position(connection, channel, stream.epoch, stream.offset)
            return True
        if replay.after < stream.first - 1:
            # The answer has promised messages that are not kept any more. The client comes back,
            # and is told that they are missing.
            self._close(
                connection,
                DisconnectCause.SLOW_CONSUMER,
                CloseCode.TRY_AGAIN_LATER,
                "slow consumer",
            )
            return True
        if replay.after < stream.offset:
            page = self._page(channel, stream, replay.after)
            self._delivery.send_page(connection, page)
            replay.after += page.count
        if replay.after < stream.offset:
            return False
        self._end(replay)
        return True

    def _end(self, replay: "_Replay") -> None:
        """Let a subscriber receive live messages from now on."""
        self._replays.pop((replay.connection, replay.channel), None)
        self._registry.resume(replay.connection, replay.channel)

    def _page(self, channel: str, stream: Stream, after: int) -> PreparedPage:
        frames = stream.read(after, _PAGE_MESSAGES, self._page_bytes)
        key = channel, stream.epoch, after, len(frames)
        page = self._pages.pop(key, None) or PreparedPage(frames)
        # Removed and inserted: the first page is the one that was used least recently.
        self._pages[key] = page
        if len(self._pages) > _KEPT_PAGES:
            del self._pages[next(iter(self._pages))]
        return page


class _Replay:
    """The history for one subscriber, as far as it was sent.

    Attributes:
        connection: The connection.
        channel: The channel.
        limits: The size of the history.
        epoch: The epoch of the stream.
        after: Offset of the last message that was sent.
    """

    __slots__ = ("after", "channel", "connection", "epoch", "limits")

    def __init__(
        self,
        connection: ServerConnection,
        channel: str,
        limits: HistoryLimits,
        epoch: str,
        after: int,
    ) -> None:
        self.connection = connection
        self.channel = channel
        self.limits = limits
        self.epoch = epoch
        self.after = after
