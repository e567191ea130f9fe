"""Random operations on a history in Redis, compared with a list."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from history_scripts import HASH, STREAM, Scripts, position_bytes
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis_servers import RedisServer, run_server

from wshub_core import HistoryLimits


class Kept(NamedTuple):
    """A message of the model."""

    offset: int
    message: bytes
    time: int


class HistoryMachine(RuleBasedStateMachine):
    """A history, and the list of all messages of its epoch."""

    server: RedisServer

    @initialize(
        messages=st.sampled_from([1, 3, 10, 50]),
        size=st.sampled_from([50, 500, 1_000, 100_000]),
        seconds=st.sampled_from([120.0, 600.0, 10_000.0]),
    )
    def begin(self, messages: int, size: int, seconds: float) -> None:
        self.client = self.server.client()
        limits = HistoryLimits(messages=messages, bytes=size, seconds=seconds)
        self.scripts = Scripts(self.client, limits)
        self.model: list[Kept] = []
        self.offset = 0
        self.epoch = self.scripts.read().epoch
        self.epochs = {self.epoch}
        self.number = 0
        # The ids of each source so far.
        self.stored = {"1" * 32: 0, "2" * 32: 0}

    def teardown(self) -> None:
        self.client.close()

    @rule(size=st.integers(0, 60), source=st.sampled_from("12"), times=st.integers(1, 15))
    def publish(self, size: int, source: str, times: int) -> None:
        for _ in range(times):
            self.number += 1
            message = f'{{"type":"{self.number}-{"x" * size}"}}'
            name = source * 32
            offset = self.scripts.publish(message, source=name, envelope_id=self.number)
            assert offset == self.offset + 1
            self.offset = offset
            self.model.append(Kept(offset, message.encode(), self.scripts.time))
            self.stored[name] = self.number

    @rule(source=st.sampled_from("12"), back=st.integers(0, 5))
    def repeat(self, source: str, back: int) -> None:
        name = source * 32
        if self.stored[name]:
            number = max(1, self.stored[name] - back)
            assert self.scripts.publish(source=name, envelope_id=number, is_repeated=True) == 0

    @rule(seconds=st.sampled_from([0.001, 10.0, 60.0, 300.0]))
    def wait(self, seconds: float) -> None:
        self.scripts.advance(seconds)

    @rule()
    def clear(self) -> None:
        self.begin_epoch(self.scripts.clear())
        self.model, self.offset = [], 0

    @rule(number=st.integers(1, 3))
    def restart_server(self, number: int) -> None:
        is_other = self.scripts.run_id != f"run-{number}"
        self.scripts.run_id = f"run-{number}"
        if is_other:
            self.begin_epoch(self.scripts.read().epoch)

    @rule()
    def lose_stream(self) -> None:
        self.client.delete(STREAM)
        self.model = []

    @rule()
    def lose_everything(self) -> None:
        self.client.delete(STREAM, HASH)
        self.begin_epoch(self.scripts.read().epoch)
        self.model, self.offset = [], 0
        self.stored = dict.fromkeys(self.stored, 0)

    def begin_epoch(self, epoch: str) -> None:
        assert epoch not in self.epochs
        self.epoch = epoch
        self.epochs.add(epoch)

    @rule(after=st.integers(0, 100), limit=st.integers(0, 50))
    def read(self, after: int, limit: int) -> None:
        page = self.scripts.read(after, limit)
        kept = [each for each in self.kept() if each.offset > after]
        assert page.payloads == [each.message for each in kept[:limit]]
        if page.payloads:
            assert page.start == kept[0].offset

    def kept(self) -> list[Kept]:
        """Return the messages within the limits."""
        limits, kept, size = self.scripts.limits, [], 0
        for each in reversed(self.model):
            size += len(each.message) + position_bytes(each.offset)
            age = self.scripts.time - each.time
            if size > limits.bytes or age >= limits.seconds * 1_000:
                break
            if each.offset <= self.offset - limits.messages:
                break
            kept.append(each)
        return kept[::-1]

    @invariant()
    def the_history_agrees_with_the_list(self) -> None:
        page = self.scripts.read(limit=100_000)
        kept = self.kept()
        assert (page.epoch, page.offset) == (self.epoch, self.offset)
        assert page.payloads == [each.message for each in kept]
        assert page.first == self.offset + 1 - len(kept)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


def test_a_history_agrees_with_a_list(server: RedisServer) -> None:
    kind: Any = type("Machine", (HistoryMachine,), {"server": server})
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
