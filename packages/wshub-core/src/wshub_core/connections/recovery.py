"""Recovery: the messages of a history for a new subscriber, and the change to live messages."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.delivery import Delivery
from wshub_core.connections.publishing import Publishing
from wshub_core.history.histories import Histories
from wshub_core.loop.tasks import Tasks
from wshub_core.loop.turns import Turns
from wshub_core.protocol.counters import Counters
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

_IDLE_SECONDS = 1.0
"""Maximum time in seconds for which frames of the client may delay the first page."""

_MAX_LOADS = 5
"""Number of loads of older messages for one request. Loaded messages may be removed at once, if the
memory for histories is full."""

_UNKNOWN_POSITION = ("foreign_epoch", "future_offset")
"""The reasons that a hub gives which lags behind the hub that the client has left."""

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
        counters: The hub's counters.
        registry: The hub's connections and their subscriptions.
        histories: The histories of the hub.
        delivery: Delivers messages to connections.
        publishing: Sends messages to one connection.
        tasks: The tasks of the hub.
        turns: Limits the work in one turn of the event loop.
        close: Ends a connection that is too slow for the history.
        max_outbox_bytes: Maximum size of the data that waits for a connection.
    """

    def __init__(
        self,
        counters: Counters,
        registry: Registry[ServerConnection],
        histories: Histories,
        delivery: Delivery,
        publishing: Publishing,
        tasks: Tasks,
        turns: Turns,
        close: _CloseConnection,
        max_outbox_bytes: int,
    ) -> None:
        self._counters = counters
        self._registry = registry
        self._histories = histories
        self._delivery = delivery
        self._publishing = publishing
        self._tasks = tasks
        self._turns = turns
        self._close = close
        # A page must leave room in the outbox for the messages of other channels.
        self._page_bytes = min(_PAGE_BYTES, max_outbox_bytes // 4)
        self._pages: dict[tuple[str, str, int, int], PreparedPage] = {}
        # The replays that are not over, by channel. A later request replaces an earlier replay.
        self._replays: dict[ServerConnection, dict[str, _Replay]] = {}
        # The connections with a task that sends pages.
        self._sending: set[ServerConnection] = set()

    def pause(self, connection: ServerConnection, channel: str) -> None:
        """Hold the live messages back from a subscriber, until `start` has sent the history."""
        self._registry.pause(connection, channel)
        self._remove(connection, channel)

    async def start(
        self,
        connection: ServerConnection,
        channel: str,
        limits: HistoryLimits,
        request: HistoryRequest | None,
        answer: Answer,
    ) -> None:
        """Answer a subscriber, and start to send what it asks for.

        There is no answer if the subscription has ended, or if a later request has replaced this
        one.

        Args:
            connection: The connection, which is subscribed.
            channel: The channel.
            limits: The size of the history.
            request: The request; None for live messages only.
            answer: Sends the answer.
        """
        # Again, because the subscription may have been live during an outage of the bridge.
        self.pause(connection, channel)
        replay = _Replay(connection, channel, limits)
        self._replays.setdefault(connection, {})[channel] = replay
        try:
            opened = await self._open(replay, request)
            if opened is None:
                return
            stream, first, plan = opened
            replay.epoch = stream.epoch
            replay.after = stream.offset if plan is None else plan.after
            position = {"epoch": stream.epoch, "offset": stream.offset, "first": first}
            position["after"] = replay.after
            if plan is not None:
                self._counters.recoveries[plan.reason or "recovered"] += 1
            answer(position if plan is None else position | describe_plan(plan))
            if replay.after < stream.offset:
                replay.is_started = True
                self._send(connection)
        except HistoryUnavailableError:
            if self._is_wanted(replay):
                if request is not None:
                    self._counters.recoveries["unavailable"] += 1
                unavailable = {"reason": "unavailable"}
                answer(unavailable if request is None else {"recovered": False} | unavailable)
        finally:
            if not replay.is_started:
                self._end(replay)

    async def _open(
        self, replay: "_Replay", request: HistoryRequest | None
    ) -> tuple[Stream, int, RecoveryPlan | None] | None:
        """Return the stream, the offset of the oldest kept message, and what to send.

        Returns:
            None if the replay is not wanted any more.
        """
        form, channel = self._histories.form, replay.channel
        is_refreshed = False
        for _ in range(_MAX_LOADS):
            # Before each call: `open` keeps the state of a channel that has subscribers.
            if not self._is_wanted(replay):
                return None
            while isinstance(opened := form.open(channel, replay.limits), Coroutine):
                await opened
                # All clients of the channel have waited for the same read.
                await self._turns.take()
                if not self._is_wanted(replay):
                    return None
            stream = opened
            first = form.first_kept(channel, stream)
            if request is None:
                return stream, first, None
            plan = plan_recovery(request, stream.epoch, first, stream.offset)
            reading = None
            if plan.reason in _UNKNOWN_POSITION and not is_refreshed:
                # The client may have got the position from a hub that is ahead of this one.
                is_refreshed = True
                reading = form.refresh(channel)
            reading = reading or form.load(channel, plan.after)
            if reading is None:
                return stream, first, plan
            await reading
            await self._turns.take()
        raise HistoryUnavailableError("the memory for histories is full")

    def _send(self, connection: ServerConnection) -> None:
        """Start the task that sends the pages of a connection, unless it runs."""
        if connection not in self._sending:
            self._sending.add(connection)
            self._tasks.spawn(self._send_pages(connection))

    async def _send_pages(self, connection: ServerConnection) -> None:
        """Send the pages of all replays in turn, each when the client has taken all before it."""
        try:
            # The answers to all waiting frames come first. A client that restores many
            # subscriptions waits for the pong behind them.
            await connection.wait_idle(_IDLE_SECONDS)
            while True:
                await self._delivery.wait_drained(connection)
                await self._turns.take()
                replay = self._take_next(connection)
                if replay is None:
                    return
                await self._advance(replay)
        finally:
            self._sending.discard(connection)

    def _take_next(self, connection: ServerConnection) -> "_Replay | None":
        """Return the replay whose turn it is; None if there is none to send."""
        replays = self._replays.get(connection, {})
        for _ in range(len(replays)):
            replay = replays.pop(next(iter(replays)))
            replays[replay.channel] = replay
            if not self._is_wanted(replay):
                self._end(replay)
            elif replay.is_started:
                return replay
        return None

    async def _advance(self, replay: "_Replay") -> None:
        """Send the next page."""
        form, connection, channel = self._histories.form, replay.connection, replay.channel
        try:
            opened = form.open(channel, replay.limits)
            stream = await opened if isinstance(opened, Coroutine) else opened
            if replay.epoch == stream.epoch and self._is_wanted(replay):
                # The messages may have been removed since the answer, for lack of memory.
                loading = form.load(channel, replay.after)
                if loading is not None:
                    await loading
                    replay.loads += 1
                    if replay.loads <= _MAX_LOADS:
                        return
        except HistoryUnavailableError:
            # The client's position is behind the stream. The notice that follows the outage, or
            # the next message, tells it to ask again.
            self._end(replay)
            return
        if not self._is_wanted(replay):
            return
        if replay.epoch != stream.epoch or replay.after > stream.offset:
            # The client learns that its position is outdated, and asks again.
            self._end(replay)
            self._publishing.send_position(connection, channel, stream.epoch, stream.offset)
        elif replay.after < stream.first - 1:
            # The answer has promised messages that are not kept any more. The client comes back,
            # and is told that they are missing.
            self._close(
                connection,
                DisconnectCause.SLOW_CONSUMER,
                CloseCode.TRY_AGAIN_LATER,
                "slow consumer",
            )
        else:
            page = self._page(channel, stream, replay.after)
            replay.after += page.count
            replay.loads = 0
            # In one step: a message that comes in between would be lost.
            if replay.after == stream.offset:
                self._end(replay)
            self._delivery.send_page(connection, page)

    def _is_wanted(self, replay: "_Replay") -> bool:
        """Return whether no later request has replaced a replay, and its subscription goes on."""
        connection, channel = replay.connection, replay.channel
        is_present = self._replays.get(connection, {}).get(channel) is replay
        return is_present and self._registry.is_paused(connection, channel)

    def _end(self, replay: "_Replay") -> None:
        """Let a subscriber receive live messages from now on, unless the replay was replaced."""
        connection, channel = replay.connection, replay.channel
        if self._replays.get(connection, {}).get(channel) is replay:
            self._remove(connection, channel)
            self._registry.resume(connection, channel)

    def _remove(self, connection: ServerConnection, channel: str) -> None:
        replays = self._replays.get(connection)
        if replays is not None:
            replays.pop(channel, None)
            if not replays:
                del self._replays[connection]

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

    Args:
        connection: The connection.
        channel: The channel.
        limits: The size of the history.

    Attributes:
        connection: The connection.
        channel: The channel.
        limits: The size of the history.
        epoch: The epoch of the stream.
        after: Offset of the last message that was sent.
        is_started: Whether the answer was sent and messages are to follow.
        loads: Number of loads since the last page.
    """

    __slots__ = ("after", "channel", "connection", "epoch", "is_started", "limits", "loads")

    def __init__(self, connection: ServerConnection, channel: str, limits: HistoryLimits) -> None:
        self.connection = connection
        self.channel = channel
        self.limits = limits
        self.epoch = ""
        self.after = 0
        self.is_started = False
        self.loads = 0
