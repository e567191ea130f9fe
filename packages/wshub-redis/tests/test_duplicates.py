"""The recognition of duplicate envelopes."""

import pytest

from wshub_redis.duplicates import DuplicateFilter


def test_a_second_copy_is_recognized_by_source_channel_and_number() -> None:
    last = DuplicateFilter(60)
    assert [last.is_new("a", b"c", number, 0) for number in (1, 2, 5, 2, 5, 6)] == [
        *(True, True, True),
        *(False, False, True),
    ]
    assert last.is_new("b", b"c", 1, 0)
    assert last.is_new("a", b"other", 1, 0)
    # Envelopes of go-ws have no number.
    assert all(last.is_new("c", b"c", None, 0) for _ in range(2))
    assert all(last.is_new("", b"c", 1, 0) for _ in range(2))


@pytest.mark.parametrize("forged", [1_000, 2**32, 2**53])
def test_a_forged_number_silences_its_source_for_a_limited_time(forged: int) -> None:
    last = DuplicateFilter(60)
    assert last.is_new("a", b"c", 1, 0)
    assert last.is_new("a", b"c", forged, 10)
    assert not last.is_new("a", b"c", 2, 11)
    # Repeating the forged number does not prolong its effect.
    assert not last.is_new("a", b"c", forged, 69)
    assert not last.is_new("a", b"c", 3, 69)
    assert last.is_new("a", b"c", 4, 70)
    # From then on, duplicates of the true source are recognized again.
    assert not last.is_new("a", b"c", 4, 71)
    assert last.is_new("a", b"c", 5, 71)


def test_a_second_copy_is_recognized_until_the_time_is_over() -> None:
    last = DuplicateFilter(60)
    assert last.is_new("a", b"c", 7, 0)
    assert not last.is_new("a", b"c", 7, 59.9)


def test_the_source_that_was_silent_longest_is_forgotten_first() -> None:
    last = DuplicateFilter(60, limit=2)
    assert last.is_new("a", b"c", 1, 0)
    assert last.is_new("b", b"c", 1, 0)
    assert last.is_new("a", b"c", 2, 0)
    assert last.is_new("c", b"c", 1, 0)
    assert not last.is_new("a", b"c", 2, 0)
    assert last.is_new("b", b"c", 1, 0)
