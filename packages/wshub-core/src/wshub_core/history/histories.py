"""The histories of a hub: which channels have one, and in which form."""

import asyncio
from collections.abc import Callable, Iterable

from wshub_core.bridge.history_store import HistoryStore
from wshub_core.history.channel_history import ChannelHistory, Deliver
from wshub_core.history.local import LocalHistory
from wshub_core.history.shared import Notify, SharedHistory
from wshub_core.history.streams import Streams
from wshub_core.loop.clock import Clock, Timer
from wshub_core.loop.tasks import Tasks
from wshub_core.values.channel_patterns import ChannelPatterns
from wshub_core.values.config import HubConfig
from wshub_core.values.history import HistoryLimits

_CHECK_SECONDS = 30.0
"""Time in seconds between two comparisons of all positions with the store. A lost message shows
itself with the next one. The comparison notices a loss behind which nothing follows."""


class Histories:
    """The histories of a hub, of its own until a bridge brings a shared store.

    Args:
        config: The hub's settings.
        patterns: The sizes of the histories; patterns may be added.
        clock: The hub's clock.
        deliver: Delivers a message to subscribers.
        notify: Tells subscribers a new position.
        tasks: The tasks of the hub.
        has_subscribers: Returns whether a channel has subscribers.

    Attributes:
        limits_of: Returns the size of the history of a channel; None if it has no history.
        form: The present form of history.
        shared: The shared history; None without a store.
    """

    def __init__(
        self,
        config: HubConfig,
        patterns: ChannelPatterns[HistoryLimits],
        clock: Clock,
        deliver: Deliver,
        notify: Notify,
        tasks: Tasks,
        has_subscribers: Callable[[str], object],
    ) -> None:
        self._config = config
        self._patterns = patterns
        self._clock = clock
        self._deliver = deliver
        self._notify = notify
        self._tasks = tasks
        self._has_subscribers = has_subscribers
        self._patterns = patterns
        # A reference to the method: publishing without a history must stay as cheap as it is.
        self.limits_of = patterns.find
        self._timer: Timer | None = None
        self._check: asyncio.Task[None] | None = None
        self._needs_check = False
        self.shared: SharedHistory | None = None
        self._set_form(None)

    def _set_form(self, store: HistoryStore | None) -> None:
        # Positions of the other form mean nothing in this one, so no stream is kept.
        max_bytes = self._config.max_history_bytes
        self.form: ChannelHistory
        if store is None:
            self.shared = None
            self.form = LocalHistory(self._clock, max_bytes, self._has_subscribers, self._deliver)
        else:
            self.form = self.shared = SharedHistory(
                store,
                Streams(self._clock, max_bytes, self._has_subscribers, lambda: None),
                self._deliver,
                self._notify,
                self._tasks,
                self._config.max_message_bytes,
            )

    @property
    def has_any(self) -> bool:
        """True if a channel can have a history."""
        return self._patterns.has_values

    def attach(self, store: HistoryStore, channels: Iterable[str]) -> None:
        """Use a shared store from now on.

        Args:
            store: The store.
            channels: The channels that have subscribers.
        """
        self._set_form(store)
        for channel in channels:
            self.note_subscribed(channel)
        self._schedule_check()

    def detach(self) -> None:
        """Keep histories of this hub alone from now on."""
        if self.shared is not None:
            self.shared.stop()
            self._set_form(None)
        self.cancel()

    def cancel(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note_subscribed(self, channel: str) -> None:
        """Record that a channel has a subscriber."""
        if self.shared is not None and (limits := self.limits_of(channel)) is not None:
            self.shared.add(channel, limits)

    def resync(self) -> None:
        """Compare all positions with the store now, in the background."""
        # A running comparison may have looked at some channels before the reason for this call.
        self._needs_check = True
        if self.shared is not None and (self._check is None or self._check.done()):
            self._check = self._tasks.spawn(self._check_positions(self.shared))

    async def _check_positions(self, shared: SharedHistory) -> None:
        while self._needs_check:
            self._needs_check = False
            await shared.resync()

    def _schedule_check(self) -> None:
        self._timer = self._clock.call_at(
            self._clock.time() + _CHECK_SECONDS, self._check_and_schedule
        )

    def _check_and_schedule(self) -> None:
        self.resync()
        self._schedule_check()
