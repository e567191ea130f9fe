"""The synchronization: it brings the members on this hub into the store of all hubs."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from random import uniform

from wshub_core.bridge.presence_store import PresenceOutcome, PresenceStore, PresenceUpdate
from wshub_core.logs import get_logger
from wshub_core.loop.clock import Clock, Timer
from wshub_core.loop.tasks import Tasks
from wshub_core.presence.agenda import Agenda
from wshub_core.presence.local import LocalPresence
from wshub_core.presence.room import Room
from wshub_core.values.errors import PresenceUnavailableError
from wshub_core.values.presence import PresenceSettings

logger = get_logger("wshub.presence")

ROUND_SECONDS = 0.2
"""Minimum time in seconds between the beginnings of two rounds of updates. The changes of a channel
within this time share one update, and the users who have come share one message."""

_RETRY_SECONDS = 10.0
"""Maximum time in seconds until another attempt after the store could not be reached."""

RECOVERY_SECONDS = 2.0
"""Time in seconds after an outage of the store before its members are read and updated. The other
hubs return meanwhile: they hear the announcements that follow, and bring back members that the
store has lost."""

_JITTER = 0.75
"""Smallest part of an interval after which its work may begin. Hubs and channels that began at the
same moment spread over the rest."""

_BATCH_UPDATES = 200
"""Maximum number of updates in one call of the store."""

_BATCH_MEMBERS = 2_000
"""Number of members at which a call of the store is complete; the last update may exceed it."""

OnOutcome = Callable[[str, PresenceOutcome], None]
"""Called with a channel and the result of its update."""


class PresenceSync:
    """The rooms of a hub, and the rounds of updates that bring their changes into the store.

    One timer serves all rooms. A round runs in a task, and sends its updates in batches, one after
    the other. Without the store of a bridge, the store is in memory and knows this hub only.

    Args:
        hub_id: The id of this hub.
        clock: The hub's clock.
        tasks: The tasks of the hub.
        on_outcome: Called with the result of each update.

    Attributes:
        store: The present store.
    """

    def __init__(self, hub_id: str, clock: Clock, tasks: Tasks, on_outcome: OnOutcome) -> None:
        self.store: PresenceStore = LocalPresence(clock.time)
        self._is_shared = False
        self._hub_id = hub_id
        self._clock = clock
        self._tasks = tasks
        self._on_outcome = on_outcome
        self._rooms: dict[str, Room] = {}
        self._agenda = Agenda()
        self._last_version = 0
        self._round: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._timer_due = 0.0
        # No round begins before: the end of the present round, or of the pause after an outage.
        self._quiet_until = 0.0
        self._recovering_until = 0.0
        self._is_failing = False
        self._is_closed = False
        # Rounds run in the context of the hub, and not in that of the connection that has caused
        # them: publish listeners are called in it.
        self._context = copy_context()

    def room(self, channel: str) -> Room | None:
        """Return the room of a channel, if it has members or recently had some."""
        return self._rooms.get(channel)

    def open_room(self, channel: str, settings: PresenceSettings) -> Room:
        """Return the room of a channel, which may be new."""
        if channel not in self._rooms:
            self._rooms[channel] = Room(channel, settings)
        return self._rooms[channel]

    @property
    def member_count(self) -> int:
        """Number of members of all channels on this hub."""
        return sum(len(room.members) for room in tuple(self._rooms.values()))

    def note_change(self, channel: str) -> None:
        """Send the changes of a room in the next round."""
        if not self._drop_if_over(channel):
            self._agenda.add(channel, self._clock.time())
            self._set_timer()

    async def wait_sent(self, channel: str) -> None:
        """Wait until the changes of a channel up to now are in the store, or cannot be sent.

        Raises:
            PresenceUnavailableError: The store returns from an outage.
        """
        if self._clock.time() < self._recovering_until:
            raise PresenceUnavailableError("the members are brought back after an outage")
        # The round that runs may have begun before the last changes; the round behind it has not.
        for _ in range(2):
            room = self._rooms.get(channel)
            if room is None or not room.has_changes:
                return
            if self._round is None:
                self._agenda.add(channel, self._clock.time())
                self._start_round()
            if self._round is not None:
                await asyncio.wait([self._round])

    # The store of a bridge.

    def use_store(self, store: PresenceStore) -> None:
        """Replace the store by that of a bridge; all hubs of the bridge learn of the members."""
        self._replace_store(store, is_announced=False)
        self._is_shared = True

    def use_memory(self) -> None:
        """Replace the store of a bridge, if there is one, by one in memory."""
        if self._is_shared:
            self._replace_store(LocalPresence(self._clock.time), is_announced=True)
            self._is_shared = False

    def send_all(self) -> None:
        """Send all members again after an outage; see `BridgePort.resync_presence`."""
        if self._is_shared:
            self._recovering_until = self._clock.time() + RECOVERY_SECONDS
            for channel, room in self._rooms.items():
                room.send_all()
                self._agenda.add(channel, self._recovering_until)
            self._set_timer()

    async def withdraw(self) -> None:
        """Remove the members of this hub from the store, and use one in memory from now on."""
        if not self._is_shared:
            return
        store, running = self.store, self._round
        # Complete updates without members. They are made before the rooms forget the store.
        updates = [
            PresenceUpdate(channel, room.settings, 0, self._next_version(), kept=())
            for channel, room in self._rooms.items()
            if room.was_sent
        ]
        self.use_memory()
        if running is not None:
            await asyncio.wait([running])
        for start in range(0, len(updates), _BATCH_UPDATES):
            try:
                await store.update(self._hub_id, updates[start : start + _BATCH_UPDATES])
            except PresenceUnavailableError:
                return  # the store forgets the members of this hub after some time

    async def close(self) -> None:
        """Send the last changes; the hub has no connections any more."""
        while self._round is not None:
            await asyncio.wait([self._round])
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._run_round([name for name, room in self._rooms.items() if room.has_changes])

    def _replace_store(self, store: PresenceStore, *, is_announced: bool) -> None:
        self.store = store
        self._is_failing = False
        self._recovering_until = 0.0
        for channel, room in tuple(self._rooms.items()):
            room.begin_again(is_announced=is_announced)
            self.note_change(channel)

    # Rounds.

    def _set_timer(self) -> None:
        due = self._agenda.next
        if due is None or self._round is not None or self._is_closed:
            return
        due = max(due, self._quiet_until, self._recovering_until)
        if self._timer is None or due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self._clock.call_at(due, self._start_round)

    def _start_round(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.time()
        is_early = self._is_closed or now < self._recovering_until
        channels = [] if is_early else self._agenda.pop_due(now)
        if not channels:
            self._set_timer()
            return
        self._quiet_until = now + ROUND_SECONDS
        self._round = self._tasks.spawn(self._run_round(channels), self._context)
        self._round.add_done_callback(self._end_round)

    def _end_round(self, _: object) -> None:
        self._round = None
        self._set_timer()

    async def _run_round(self, channels: Sequence[str]) -> None:
        store = self.store
        waiting = deque(channels)
        while waiting and store is self.store:
            batch = list(self._take_batch(waiting))
            try:
                outcomes = await store.update(self._hub_id, batch)
                self._note_success()
            except BaseException as error:
                for update in batch:
                    self._fail(update)
                for channel in waiting:
                    self._schedule(channel, _RETRY_SECONDS)
                if not isinstance(error, Exception):
                    raise
                self._note_failure(error)
                return
            if store is self.store:
                for update, outcome in zip(batch, outcomes, strict=True):
                    self._confirm(update, outcome, waiting)
            # A batch can take some milliseconds, even if the store does not wait.
            await asyncio.sleep(0)

    def _take_batch(self, waiting: deque[str]) -> Iterator[PresenceUpdate]:
        updates = members = 0
        while waiting and updates < _BATCH_UPDATES and members < _BATCH_MEMBERS:
            channel = waiting.popleft()
            # Members may have come and gone between two rounds.
            if not self._drop_if_over(channel):
                update = self._rooms[channel].take_update(self._next_version())
                updates += 1
                members += len(update.entered) + len(update.left)
                yield update

    def _confirm(
        self, update: PresenceUpdate, outcome: PresenceOutcome, waiting: deque[str]
    ) -> None:
        channel = update.channel
        room = self._rooms.get(channel)
        if room is None:
            return
        if outcome.needs_all:
            room.fail(update)
            # A complete update needs no earlier one, so a second refusal is a fault of the store.
            if update.kept is not None:
                self._schedule(channel, _RETRY_SECONDS)
            else:
                waiting.append(channel)
            return
        if room.confirm(update, awaits_leaves=outcome.next_leave is not None):
            waiting.append(channel)
        elif room.has_changes:
            self._agenda.add(channel, self._clock.time())
        self._on_outcome(channel, outcome)
        if outcome.next_leave is not None:
            self._agenda.add(channel, self._clock.time() + outcome.next_leave)
        if room.members:
            self._schedule(channel, self.store.refresh_seconds)
        self._drop_if_over(channel)

    def _fail(self, update: PresenceUpdate) -> None:
        room = self._rooms.get(update.channel)
        if room is not None:
            room.fail(update)
            self._schedule(update.channel, _RETRY_SECONDS)

    def _schedule(self, channel: str, seconds: float) -> None:
        self._agenda.add(channel, self._clock.time() + seconds * uniform(_JITTER, 1.0))

    def _drop_if_over(self, channel: str) -> bool:
        """Drop a room without members of which the store has to learn nothing."""
        room = self._rooms.get(channel)
        if room is not None and room.is_over:
            del self._rooms[channel]
            self._agenda.discard(channel)
        return channel not in self._rooms

    def _next_version(self) -> int:
        self._last_version += 1
        return self._last_version

    def _note_failure(self, error: Exception) -> None:
        if not isinstance(error, PresenceUnavailableError):
            logger.error("the presence store failed", exc_info=error)
        elif not self._is_failing:
            logger.warning("other hubs do not learn who is present: %s", error)
        self._is_failing = True

    def _note_success(self) -> None:
        if self._is_failing:
            logger.warning("other hubs learn who is present again")
            self._is_failing = False
