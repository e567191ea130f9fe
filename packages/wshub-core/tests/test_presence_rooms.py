"""The changes of a room reach a store that loses data, connections, answers and the order."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from wshub_core.bridge.presence_store import PresenceUpdate, StoredMember
from wshub_core.presence.agenda import Agenda
from wshub_core.presence.room import Room
from wshub_core.values.presence import PresenceSettings


class VersionedStore:
    """The members of one hub in one channel, as a store keeps them."""

    def __init__(self) -> None:
        self.members: set[str] = set()
        self.version = 0

    def apply(self, update: PresenceUpdate) -> bool:
        """Apply an update, and return whether the hub must send a complete one."""
        if update.kept is None and update.base != self.version:
            return True
        if update.kept is not None and update.version <= self.version:
            return True
        self.members -= {each.connection_id for each in update.left}
        if update.kept is not None:
            self.members &= set(update.kept)
        self.members |= {each.connection_id for each in update.entered}
        self.version = update.version
        return False


steps = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.integers(0, 5)),
        st.tuples(st.just("leave"), st.integers(0, 5)),
        # The update begins; it is answered, or it is lost before or after it was applied.
        st.tuples(st.just("send"), st.just(0)),
        st.tuples(st.just("answer"), st.just(0)),
        st.tuples(st.just("lose"), st.booleans()),
        # A lost update arrives after all.
        st.tuples(st.just("arrive late"), st.integers(0, 3)),
        st.tuples(st.just("lose data"), st.just(0)),
        st.tuples(st.just("send all"), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_a_store_has_the_members_of_a_room_in_the_end(steps: Sequence[tuple[str, int]]) -> None:
    room, store = Room("room:1", PresenceSettings()), VersionedStore()
    under_way: PresenceUpdate | None = None
    lost: list[PresenceUpdate] = []
    version = 0

    def answer(update: PresenceUpdate) -> None:
        if store.apply(update):
            room.fail(update)
        else:
            room.confirm(update)

    for step, number in steps:
        name = str(number)
        if step == "enter" and name not in room.members:
            room.enter(StoredMember(name, "", b"{}"))
        elif step == "leave":
            room.leave(name)
        elif step == "send" and under_way is None:
            version += 1
            under_way = room.take_update(version)
        elif step == "answer" and under_way is not None:
            answer(under_way)
            under_way = None
        elif step == "lose" and under_way is not None:
            if number:
                store.apply(under_way)
            lost.append(under_way)
            room.fail(under_way)
            under_way = None
        elif step == "arrive late" and number < len(lost):
            store.apply(lost[number])
        elif step == "lose data":
            store.__init__()  # type: ignore[misc]
        elif step == "send all":
            room.send_all()
    if under_way is not None:
        answer(under_way)
    # A refresh notices that the store has lost its data; a complete update mends it.
    for _ in range(3):
        version += 1
        answer(room.take_update(version))
    assert store.members == room.members.keys()
    assert not room.has_changes


def test_many_changes_are_spread_over_several_updates() -> None:
    room, store = Room("room:1", PresenceSettings()), VersionedStore()
    for number in range(2_500):
        room.enter(StoredMember(str(number), "", b"{}"))
    for version, (size, has_more) in enumerate([(1_000, True), (1_000, True), (500, False)], 1):
        update = room.take_update(version)
        assert len(update.entered) == size
        assert not store.apply(update)
        assert room.confirm(update) is has_more
    assert store.members == room.members.keys()


def test_members_that_a_complete_update_does_not_contain_yet_can_leave() -> None:
    room, store = Room("room:1", PresenceSettings()), VersionedStore()
    for number in range(1_500):
        room.enter(StoredMember(str(number), "", b"{}"))
    for version in (1, 2):
        update = room.take_update(version)
        store.apply(update)
        room.confirm(update)
    room.send_all()
    update = room.take_update(3)
    room.leave("1400")
    store.apply(update)
    assert "1400" in store.members
    room.confirm(update)
    while room.has_changes:
        update = room.take_update(update.version + 1)
        store.apply(update)
        room.confirm(update)
    assert store.members == room.members.keys()


def test_members_that_leave_in_a_long_outage_are_forgotten_in_the_end() -> None:
    room, store = Room("room:1", PresenceSettings()), VersionedStore()
    room.fail(room.take_update(1))
    for number in range(20_000):
        room.enter(StoredMember(str(number), "", b"{}"))
        room.leave(str(number))
    update = room.take_update(2)
    assert len(update.left) == 1_000
    sizes = [len(update.left)]
    while room.confirm(update):
        update = room.take_update(update.version + 1)
        store.apply(update)
        sizes.append(len(update.left))
    assert sum(sizes) == 10_000


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans())))
def test_an_agenda_has_the_earliest_time_of_each_channel(
    steps: Sequence[tuple[str, int, bool]],
) -> None:
    agenda, times, now = Agenda(), dict[str, float](), 0.0
    for channel, number, is_pop in steps:
        if is_pop:
            now += number
            due = agenda.pop_due(now)
            assert due == sorted(due, key=lambda each: (times[each], each))
            assert set(due) == {each for each, time in times.items() if time <= now}
            for each in due:
                del times[each]
        elif number == 0:
            agenda.discard(channel)
            times.pop(channel, None)
        else:
            agenda.add(channel, now + number)
            times[channel] = min(times.get(channel, float("inf")), now + number)
        assert agenda.next == min(times.values(), default=None)
        assert len(agenda) == len(times)
        assert all(each in agenda for each in times)
