from hypothesis import given
from hypothesis import strategies as st

from wshub_core.protocol.deadlines import Deadlines


def test_keys_expire_in_the_order_of_their_deadlines() -> None:
    deadlines: Deadlines[str] = Deadlines(10.0)
    assert deadlines.next is None
    deadlines.add("a", 1.0)
    deadlines.add("b", 2.0)
    deadlines.add("c", 3.0)
    deadlines.discard("b")
    deadlines.discard("unknown")
    assert deadlines.next == 11.0
    assert deadlines.pop_expired(10.9) == []
    assert deadlines.pop_expired(13.0) == ["a", "c"]
    assert deadlines.next is None


def test_adding_a_key_again_does_not_move_its_deadline() -> None:
    deadlines: Deadlines[str] = Deadlines(10.0)
    deadlines.add("a", 1.0)
    deadlines.add("a", 9.0)
    assert deadlines.next == 11.0


def test_clear_removes_all_keys() -> None:
    deadlines: Deadlines[str] = Deadlines(10.0)
    deadlines.add("a", 1.0)
    deadlines.clear()
    assert deadlines.next is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans(), st.floats(0, 5))))
def test_each_key_expires_exactly_at_its_deadline(
    steps: list[tuple[str, bool, float]],
) -> None:
    deadlines: Deadlines[str] = Deadlines(7.0)
    model: dict[str, float] = {}
    now = 0.0
    for key, is_added, pause in steps:
        now += pause
        due = [name for name, when in model.items() if when <= now]
        assert deadlines.pop_expired(now) == due
        for name in due:
            del model[name]
        if is_added:
            deadlines.add(key, now)
            model.setdefault(key, now + 7.0)
        else:
            deadlines.discard(key)
            model.pop(key, None)
        assert deadlines.next == min(model.values(), default=None)
