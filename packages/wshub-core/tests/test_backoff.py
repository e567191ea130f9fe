import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_core import Backoff


def bounds(initial: float, maximum: float, multiplier: float, count: int) -> list[float]:
    backoff = Backoff(initial, maximum, multiplier)
    found = []
    for _ in range(count):
        backoff.fail()
        found.append(backoff.bound)
    return found


def test_the_bound_grows_up_to_the_maximum() -> None:
    assert bounds(0.1, 1.0, 2.0, 7) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert bounds(5.0, 1.0, 2.0, 2) == [1.0, 1.0]
    assert bounds(1.0, 30.0, 1.0, 3) == [1.0, 1.0, 1.0]


def test_any_number_of_failures_has_a_finite_bound() -> None:
    backoff = Backoff(1.0, 30.0, 10.0)
    backoff.failures = 1_000_000
    assert backoff.bound == 30.0


def test_a_reset_starts_again_with_the_initial_bound() -> None:
    backoff = Backoff(1.0, 30.0, 2.0)
    for _ in range(5):
        backoff.fail()
    backoff.reset()
    backoff.fail()
    assert backoff.bound == 1.0


@given(st.floats(0.01, 10), st.floats(0.01, 100), st.floats(1, 4), st.integers(1, 50))
def test_a_delay_lies_between_zero_and_the_bound(
    initial: float, maximum: float, multiplier: float, failures: int
) -> None:
    backoff = Backoff(initial, maximum, multiplier)
    for _ in range(failures):
        backoff.fail()
    assert backoff.bound <= maximum
    assert 0 <= backoff.delay() <= backoff.bound


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_the_delay_that_the_server_asks_for_is_added(part: float) -> None:
    backoff = Backoff(1.0, 30.0, 2.0, uniform=lambda low, high: low + part * (high - low))
    backoff.fail()
    assert backoff.delay() == part
    assert backoff.delay(retry_after=7.0) == 7.0 + part


def test_delays_of_many_clients_are_spread() -> None:
    delays = set()
    for _ in range(100):
        backoff = Backoff(1.0, 30.0, 2.0)
        backoff.fail()
        delays.add(backoff.delay())
    assert len(delays) == 100
    # Over the whole range, and not around its middle.
    assert sum(delay < 0.25 for delay in delays) > 5
    assert sum(delay > 0.75 for delay in delays) > 5
