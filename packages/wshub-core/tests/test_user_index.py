"""The user index agrees with a plain model of it."""

from hypothesis import given
from hypothesis import strategies as st

from wshub_core.protocol.user_index import UserIndex

steps = st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 4)), max_size=40)


@given(steps)
def test_the_index_finds_the_connections_of_each_user(steps: list[tuple[str, int]]) -> None:
    index: UserIndex[int] = UserIndex()
    model: set[tuple[str, int]] = set()
    for user_id, number in steps:
        # The same step again removes the connection.
        if (user_id, number) in model:
            index.remove(user_id, number)
        else:
            index.add(user_id, number)
        model ^= {(user_id, number)}
        for user in ("a", "b"):
            assert index.find(user) == {each for name, each in model if name == user}
    assert index.find("") == frozenset()
    for user_id, number in model:
        index.remove(user_id, number)
    assert not index._connections


def test_an_unknown_connection_is_no_error() -> None:
    index: UserIndex[int] = UserIndex()
    index.remove("a", 1)
    index.add("a", 1)
    index.remove("a", 2)
    assert index.find("a") == {1}
