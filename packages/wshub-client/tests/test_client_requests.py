"""The meaning of answers, without a network."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wshub_client import ClientError, LostError, PublishRefusedError, SubscriptionRefusedError
from wshub_client.requests import Requests, UnclearRefusalError
from wshub_core import Message, decode_message

DENIED = "Subscribe: subscription unauthorised"


class Outcomes:
    """Notes how requests have ended."""

    def __init__(self) -> None:
        self.requests = Requests()
        self.resolved: dict[str, ClientError | None] = {}
        self.pongs: list[str] = []

    def ask(self, channel: str, is_subscription: bool = True) -> str:
        def resolve(error: ClientError | None, _: Any) -> None:
            assert channel not in self.resolved, "once"
            self.resolved[channel] = error

        refusal = SubscriptionRefusedError if is_subscription else PublishRefusedError
        return self.requests.ask(channel, refusal, resolve)

    def ping(self, name: str = "") -> str:
        return self.requests.ping(lambda: self.pongs.append(name))

    def hear(self, **message: Any) -> list[Message]:
        """Take a message; return what is for the application."""
        payload = json.dumps(message).encode()
        return list(self.requests.take(decode_message(payload), payload))

    def learn_that_ids_are_answered(self) -> None:
        assert self.hear(type="pong", id=self.ping()) == []

    def learn_that_ids_are_ignored(self) -> None:
        self.requests.trust_pongs()
        self.ping()
        assert self.hear(type="pong") == []


def forged(kind: str, **fields: Any) -> Message:
    return Message(type=kind, **fields)


def test_answers_find_their_requests_in_any_order() -> None:
    outcomes = Outcomes()
    ids = {channel: outcomes.ask(channel) for channel in "abc"}
    published = outcomes.ask("d", is_subscription=False)
    ping = outcomes.ping()
    assert outcomes.hear(type="subscribed", channel="b", id=ids["b"]) == []
    assert outcomes.hear(type="error", data="no", code="denied", id=ids["a"]) == []
    assert outcomes.hear(type="error", data="no", code="publish_denied", id=published) == []
    assert outcomes.hear(type="subscribed", channel="c", id=ids["c"]) == []
    refused, unpublished = outcomes.resolved["a"], outcomes.resolved["d"]
    assert isinstance(refused, SubscriptionRefusedError)
    assert (refused.channel, refused.code, refused.reason) == ("a", "denied", "no")
    assert isinstance(unpublished, PublishRefusedError)
    assert (unpublished.code, unpublished.reason) == ("publish_denied", "no")
    assert outcomes.resolved["b"] is outcomes.resolved["c"] is None
    assert outcomes.hear(type="pong", id=ping) == []


def test_a_ping_with_an_answer_resolves_earlier_requests_without_one() -> None:
    outcomes = Outcomes()
    late = outcomes.ask("late")
    outcomes.ask("unanswered", is_subscription=False)
    assert outcomes.hear(type="pong", id=outcomes.ping("pong")) == []
    assert outcomes.pongs == ["pong"]
    assert isinstance(outcomes.resolved["unanswered"], PublishRefusedError)
    # A hub whose bridge is down confirms when it is up.
    assert "late" not in outcomes.resolved
    assert outcomes.hear(type="subscribed", id=late) == []
    assert outcomes.resolved["late"] is None


def test_ids_are_random_for_each_connection() -> None:
    ids = [Requests().ping() for _ in range(100)]
    prefixes = {each.rpartition("-")[0] for each in ids}
    assert len(prefixes) == 100
    assert all(len(prefix) >= 16 for prefix in prefixes)


def test_answers_without_the_id_are_messages_once_the_hub_has_answered_one() -> None:
    outcomes = Outcomes()
    outcomes.learn_that_ids_are_answered()
    asked = outcomes.ask("a")
    outcomes.ask("b", is_subscription=False)
    ping = outcomes.ping("pong")
    for message in (
        {"type": "error", "data": DENIED},
        {"type": "error", "data": DENIED, "channel": "a"},
        {"type": "error", "data": "no", "id": "wshub-1"},
        {"type": "pong"},
        {"type": "pong", "id": 2},
        {"type": "subscribed", "channel": "a"},
        {"type": "subscribed", "channel": "a", "id": ["x"]},
        {"type": "published", "channel": "b"},
        {"type": "unsubscribed"},
        {"type": "authenticated", "data": {"expiresAt": None}},
    ):
        assert [each.type for each in outcomes.hear(**message)] == [message["type"]]
    assert (outcomes.resolved, outcomes.pongs) == ({}, [""])
    outcomes.hear(type="subscribed", id=asked)
    outcomes.hear(type="pong", id=ping)
    assert outcomes.resolved["a"] is None
    assert outcomes.pongs == ["", "pong"]


def test_a_forged_pong_confirms_nothing_before_the_first_answer() -> None:
    outcomes = Outcomes()
    asked = outcomes.ask("a")
    outcomes.ask("b", is_subscription=False)
    ping = outcomes.ping("pong")
    for _ in range(5):
        outcomes.hear(type="pong")
    assert outcomes.requests.is_unclear
    assert (outcomes.resolved, outcomes.pongs) == ({}, [])
    outcomes.hear(type="error", id=asked, code="denied", data="no")
    assert not outcomes.requests.is_unclear
    outcomes.hear(type="pong", id=ping)
    assert isinstance(outcomes.resolved["a"], SubscriptionRefusedError)
    assert isinstance(outcomes.resolved["b"], PublishRefusedError)
    assert outcomes.pongs == ["pong"]


def test_forged_refusals_before_the_first_answer_reach_the_application_after_it() -> None:
    outcomes = Outcomes()
    probe = outcomes.requests.probe()
    asked = [outcomes.ask(channel) for channel in "ab"]
    outcomes.ping()
    lies = [f"Subscribe: lie {number}" for number in range(3)]
    # No more are kept than could be refusals.
    heard = [outcomes.hear(type="error", data=lie) for lie in lies]
    assert heard[:2] == [[], []]
    assert [each.data for each in heard[2]] == [lies[2]]
    assert [each.data for each in outcomes.hear(type="unsubscribed", id=probe)] == lies[:2]
    for each in asked:
        outcomes.hear(type="subscribed", id=each)
    assert outcomes.resolved == {"a": None, "b": None}


def test_a_pong_opens_the_connection_at_once_if_there_are_no_channels() -> None:
    outcomes = Outcomes()
    outcomes.ping("open")
    assert outcomes.hear(type="pong") == []
    assert outcomes.pongs == ["open"]


def test_the_pong_of_a_hub_that_answers_no_ids_confirms_earlier_requests() -> None:
    outcomes = Outcomes()
    outcomes.requests.probe()
    outcomes.ask("a")
    outcomes.ping("first")
    outcomes.ask("b", is_subscription=False)
    outcomes.ping("second")
    outcomes.ask("c")
    outcomes.ping("third")
    assert outcomes.hear(type="pong") == outcomes.hear(type="pong") == []
    assert (outcomes.resolved, outcomes.pongs) == ({}, [])
    outcomes.requests.trust_pongs()
    assert outcomes.hear(type="error", data=DENIED) == []
    assert outcomes.hear(type="pong") == []
    assert outcomes.pongs == ["first", "second", "third"]
    assert outcomes.resolved["a"] is None
    assert isinstance(outcomes.resolved["b"], PublishRefusedError)
    refused = outcomes.resolved["c"]
    assert isinstance(refused, SubscriptionRefusedError)
    assert (refused.channel, refused.reason) == ("c", DENIED)


def test_one_refusal_among_several_subscriptions_is_unclear() -> None:
    outcomes = Outcomes()
    outcomes.learn_that_ids_are_ignored()
    for channel in "abc":
        outcomes.ask(channel)
    outcomes.ping()
    outcomes.hear(type="error", data="subscription limit exceeded")
    assert outcomes.resolved == {}
    outcomes.hear(type="pong")
    assert set(outcomes.resolved) == {*"abc"}
    assert all(isinstance(each, UnclearRefusalError) for each in outcomes.resolved.values())


def test_as_many_refusals_as_subscriptions_are_clear() -> None:
    outcomes = Outcomes()
    outcomes.learn_that_ids_are_ignored()
    for channel in "ab":
        outcomes.ask(channel)
    outcomes.ping()
    for text in (DENIED, "subscription limit exceeded"):
        assert outcomes.hear(type="error", data=text) == []
    assert len(outcomes.hear(type="error", data=DENIED)) == 1
    outcomes.hear(type="pong")
    assert [str(error) for error in outcomes.resolved.values()] == [
        f"a: {DENIED}",
        "b: subscription limit exceeded",
    ]


def test_other_errors_are_for_the_application() -> None:
    outcomes = Outcomes()
    outcomes.ask("a")
    outcomes.ping()
    assert len(outcomes.hear(type="error", data="something else")) == 1
    assert len(outcomes.hear(type="error", data=DENIED, channel="b")) == 1
    assert len(outcomes.hear(type="error", data=5, id=[1], code={"a": 1})) == 1
    assert len(outcomes.hear(type="subscribed", channel="a")) == 1


def test_answers_to_requests_of_the_application_are_delivered() -> None:
    for learn in (Outcomes.learn_that_ids_are_ignored, Outcomes.learn_that_ids_are_answered):
        outcomes = Outcomes()
        learn(outcomes)
        first = outcomes.ping("first")
        outcomes.requests.ping(is_own=False)
        third = outcomes.ping("third")
        if learn is Outcomes.learn_that_ids_are_answered:
            heard = [outcomes.hear(type="pong", id=each) for each in (first, None, third)]
        else:
            heard = [outcomes.hear(type="pong") for _ in range(3)]
        assert [len(each) for each in heard] == [0, 1, 0]
        assert outcomes.pongs[-2:] == ["first", "third"]


def test_the_answer_for_an_unsubscribed_channel_is_ignored() -> None:
    outcomes = Outcomes()
    outcomes.learn_that_ids_are_answered()
    ids = [outcomes.ask(channel) for channel in "ab"]
    outcomes.requests.forget("a")
    for each in ids:
        assert outcomes.hear(type="error", id=each, data="no") == []
    assert set(outcomes.resolved) == {"b"}


def test_a_lost_connection_ends_all_requests() -> None:
    outcomes = Outcomes()
    lost = LostError(1006, "")
    for channel in "ab":
        outcomes.ask(channel)
    outcomes.ping()
    outcomes.requests.abandon(lost)
    assert outcomes.resolved == {"a": lost, "b": lost}
    assert len(outcomes.hear(type="pong")) == 1


@given(
    st.lists(st.sampled_from(["ask", "ping", "foreign ping", "pong", "lie", "trust"]), max_size=40)
)
def test_pongs_without_ids_answer_the_right_ping_and_resolve_once(steps: list[str]) -> None:
    outcomes = Outcomes()
    pings: list[bool] = []
    asked = set()
    for number, step in enumerate(steps):
        if step == "ask":
            outcomes.ask(str(number))
            asked.add(str(number))
        elif step == "ping":
            outcomes.ping()
            pings.append(True)
        elif step == "foreign ping":
            outcomes.requests.ping(is_own=False)
            pings.append(False)
        elif step == "trust":
            outcomes.requests.trust_pongs()
        elif step == "lie":
            outcomes.hear(type="error", data=DENIED)
        else:
            assert outcomes.hear(type="pong") == (
                [] if pings and pings.pop(0) else [forged("pong")]
            )
    outcomes.requests.abandon(LostError(1006, ""))
    assert set(outcomes.resolved) == asked


@given(
    st.lists(
        st.sampled_from(["ask", "ping", "answer", "refuse", "pong", "forged pong", "lie"]),
        max_size=40,
    ),
    st.data(),
)
def test_only_answers_with_ids_count_after_the_first_of_them(
    steps: list[str], data: st.DataObject
) -> None:
    outcomes = Outcomes()
    outcomes.learn_that_ids_are_answered()
    open_ids: dict[str, str] = {}
    pings: list[str] = []
    asked = set()
    for number, step in enumerate(steps):
        before = dict(outcomes.resolved)
        if step == "ask":
            open_ids[str(number)] = outcomes.ask(str(number))
            asked.add(str(number))
        elif step == "ping":
            pings.append(outcomes.ping())
        elif step == "pong" and pings:
            assert outcomes.hear(type="pong", id=pings.pop(0)) == []
        elif step == "forged pong":
            assert outcomes.hear(type="pong") == [forged("pong")]
        elif step == "lie":
            assert outcomes.hear(type="error", data=DENIED) == [forged("error", data=DENIED)]
        elif step in ("answer", "refuse") and open_ids:
            name = data.draw(st.sampled_from(sorted(open_ids)))
            kind = "subscribed" if step == "answer" else "error"
            assert outcomes.hear(type=kind, id=open_ids.pop(name), data="x") == []
            assert (outcomes.resolved[name] is None) == (step == "answer")
            continue
        assert outcomes.resolved == before
    outcomes.requests.abandon(LostError(1006, ""))
    assert set(outcomes.resolved) == asked
