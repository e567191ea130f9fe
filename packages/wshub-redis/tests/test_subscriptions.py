"""A channel is active only while the server has the subscription, by a model of a server."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wshub_redis.subscriptions import Subscriptions

channels = st.sampled_from([b"a", b"b", b"c"])


class SubscriptionsMachine(RuleBasedStateMachine):
    """Random wanted channels, and a server that answers late and in order."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions = Subscriptions()
        self.wanted: set[bytes] = set()
        self.commands: deque[tuple[bytes, bool]] = deque()
        self.confirmations: deque[bytes] = deque()
        self.on_server: set[bytes] = set()

    @rule(channel=channels)
    def add(self, channel: bytes) -> None:
        self.wanted.add(channel)
        is_active = self.subscriptions.add(channel)
        assert is_active == self.subscriptions.is_active(channel)

    @rule(channel=channels)
    def discard(self, channel: bytes) -> None:
        self.wanted.discard(channel)
        self.subscriptions.discard(channel)
        assert not self.subscriptions.is_active(channel)

    @rule(most=st.integers(1, 3))
    def send(self, most: int) -> None:
        subscribe, unsubscribe = self.subscriptions.take_due(most)
        assert len(subscribe) + len(unsubscribe) <= most
        assert not set(subscribe) & set(unsubscribe)
        self.commands.extend((channel, True) for channel in subscribe)
        self.commands.extend((channel, False) for channel in unsubscribe)

    @precondition(lambda self: self.commands)
    @rule()
    def serve(self) -> None:
        channel, is_subscribe = self.commands.popleft()
        if is_subscribe:
            self.on_server.add(channel)
            self.confirmations.append(channel)
        else:
            self.on_server.discard(channel)

    @precondition(lambda self: self.confirmations)
    @rule()
    def confirm(self) -> None:
        channel = self.confirmations.popleft()
        if self.subscriptions.confirm(channel):
            assert self.subscriptions.is_active(channel)

    @rule()
    def lose_the_connection(self) -> None:
        self.commands.clear()
        self.confirmations.clear()
        self.on_server.clear()
        self.subscriptions.reset(self.wanted)
        assert not any(map(self.subscriptions.is_active, self.wanted))

    @invariant()
    def what_is_active_stays_on_the_server_as_long_as_it_is_wanted(self) -> None:
        for channel in b"abc":
            name = bytes([channel])
            if self.subscriptions.is_active(name):
                assert name in self.wanted
                assert name in self.on_server
                # No command that would end the subscription is under way.
                assert (name, False) not in self.commands

    @invariant()
    def without_due_commands_the_server_has_the_wanted_channels(self) -> None:
        if not self.subscriptions.has_due and not self.commands:
            assert self.on_server == self.wanted
            if not self.confirmations:
                assert all(map(self.subscriptions.is_active, self.wanted))
                assert self.subscriptions.unconfirmed == 0


SubscriptionsMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestSubscriptions = SubscriptionsMachine.TestCase
