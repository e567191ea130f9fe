from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from wshub_core import SubscriptionLimitError
from wshub_core.protocol.registry import Registry

LIMIT = 3
channels = st.sampled_from(["a", "b", "c", "d", "e"])


class RegistryMachine(RuleBasedStateMachine):
    """Random use, compared with sets of connections, subscriptions and paused subscriptions."""

    connections = Bundle("connections")
    gone = Bundle("gone")

    @initialize()
    def start(self) -> None:
        self.emptied: list[str] = []
        self.registry: Registry[int] = Registry(LIMIT, self.emptied.append)
        self.present: set[int] = set()
        self.pairs: set[tuple[int, str]] = set()
        self.paused: set[tuple[int, str]] = set()
        self.next_id = 0

    @rule(target=connections)
    def add(self) -> int:
        self.next_id += 1
        self.registry.add(self.next_id)
        self.present.add(self.next_id)
        return self.next_id

    @rule(target=gone, connection=consumes(connections))
    def remove(self, connection: int) -> int:
        channels = {name for _, name in self.pairs}
        assert self.registry.remove(connection)
        self.present.remove(connection)
        self.pairs = {pair for pair in self.pairs if pair[0] != connection}
        self.paused &= self.pairs
        # Each channel that has lost its last subscriber is reported once.
        assert sorted(self.emptied) == sorted(channels - {name for _, name in self.pairs})
        self.emptied.clear()
        return connection

    @rule(connection=connections, channel=channels)
    def subscribe(self, connection: int, channel: str) -> None:
        is_new = (connection, channel) not in self.pairs
        is_full = sum(pair[0] == connection for pair in self.pairs) == LIMIT
        if is_new and is_full:
            with pytest.raises(SubscriptionLimitError, match="limit exceeded"):
                self.registry.subscribe(connection, channel)
        else:
            assert self.registry.subscribe(connection, channel) == is_new
            self.pairs.add((connection, channel))

    @rule(connection=connections, channel=channels)
    def unsubscribe(self, connection: int, channel: str) -> None:
        was_there = (connection, channel) in self.pairs
        assert self.registry.unsubscribe(connection, channel) == was_there
        self.pairs.discard((connection, channel))
        self.paused &= self.pairs
        is_empty = was_there and all(name != channel for _, name in self.pairs)
        assert self.emptied == [channel] * is_empty
        self.emptied.clear()

    @rule(connection=connections, channel=channels)
    def pause(self, connection: int, channel: str) -> None:
        self.registry.pause(connection, channel)
        # A pause without a subscription has no effect.
        self.paused |= {(connection, channel)} & self.pairs

    @rule(connection=connections, channel=channels)
    def resume(self, connection: int, channel: str) -> None:
        self.registry.resume(connection, channel)
        self.paused.discard((connection, channel))

    @rule(connection=gone, channel=channels)
    def a_removed_connection_cannot_subscribe(self, connection: int, channel: str) -> None:
        assert not self.registry.remove(connection)
        assert not self.registry.unsubscribe(connection, channel)
        with pytest.raises(KeyError):
            self.registry.subscribe(connection, channel)
        self.registry.pause(connection, channel)
        self.registry.resume(connection, channel)
        assert not self.registry.is_paused(connection, channel)
        assert self.registry.channels_of(connection) == ()

    @rule(channel=channels)
    def a_snapshot_never_changes(self, channel: str) -> None:
        snapshot = self.registry.subscribers_of(channel)
        before = set(snapshot)
        self.registry.add(-1)
        self.registry.subscribe(-1, channel)
        self.registry.remove(-1)
        self.emptied.clear()
        assert set(snapshot) == before

    @invariant()
    def both_indices_agree_with_the_model(self) -> None:
        registry = self.registry
        assert registry.connections == self.present
        assert len(registry) == len(self.present)
        for connection in self.present:
            assert connection in registry
            expected = sorted(channel for member, channel in self.pairs if member == connection)
            assert registry.channels_of(connection) == tuple(expected)
        for channel in "abcde":
            members = {member for member, name in self.pairs if name == channel}
            paused = {member for member, name in self.paused if name == channel}
            assert set(registry.subscribers_of(channel)) == members - paused
            assert sorted(registry.all_subscribers_of(channel)) == sorted(members)
            assert registry.subscriber_count(channel) == len(members)

    @invariant()
    def only_subscriptions_are_paused(self) -> None:
        for connection in self.present:
            for channel in "abcde":
                is_paused = self.registry.is_paused(connection, channel)
                assert is_paused == ((connection, channel) in self.paused)
        # Nothing is left of the pauses that have ended.
        pauses = {(each, name) for name, paused in self.registry._paused.items() for each in paused}
        assert pauses == self.paused
        assert all(self.registry._paused.values())

    @invariant()
    def there_are_no_empty_channels(self) -> None:
        names = sorted({channel for _, channel in self.pairs})
        assert self.registry.channels == tuple(names)
        assert self.registry.channel_count == len(names)
        assert self.registry.subscription_count == len(self.pairs)


RegistryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestRegistry = RegistryMachine.TestCase


def test_snapshots_are_reused_until_a_change() -> None:
    registry: Registry[str] = Registry(LIMIT, print)
    registry.add("x")
    registry.subscribe("x", "a")
    assert registry.subscribers_of("a") is registry.subscribers_of("a")
    assert registry.connections is registry.connections


def test_a_copy_of_the_connections_keeps_no_snapshot() -> None:
    """Collectors of metrics copy them in other threads, while connections come."""
    registry: Registry[int] = Registry(LIMIT, lambda channel: None)
    registry.add(1)

    class Slow(dict[int, set[str]]):
        def __iter__(self) -> Iterator[int]:
            names = list(super().__iter__())
            if 2 not in self:
                registry.add(2)  # as if the loop had gone on meanwhile
            return iter(names)

    registry._channels_of = Slow(registry._channels_of)
    registry.copy_connections()
    assert registry.connections == {1, 2}
