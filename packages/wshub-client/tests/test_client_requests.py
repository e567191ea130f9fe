"""What answers mean, without a network."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wshub_client import ClientError, LostError, PublishRefusedError, SubscriptionRefusedError
from wshub_client.requests import Requests
from wshub_core import decode_message


class Outcomes:
    """Notes how requests have ended."""

    def __init__(self) -> None:
        self.requests = Requests()
        self.settled: dict[str, ClientError | None] = {}

    def ask(self, channel: str, is_subscription: bool = True) -> str:
        def settle(error: ClientError | None) -> None:
            assert channel not in self.settled, "once"
            self.settled[channel] = error

        return self.requests.ask(channel, settle, is_subscription=is_subscription)

    def hear(self, **message: Any) -> bool:
        payload = json.dumps(message).encode()
        return self.requests.take(decode_message(payload), payload)


def test_answers_find_their_requests_in_any_order() -> None:
    outcomes = Outcomes()
    ids = {channel: outcomes.ask(channel) for channel in "abc"}
    published = outcomes.ask("d", is_subscription=False)
    outcomes.requests.ping()
    assert outcomes.hear(type="subscribed", channel="b", id=ids["b"])
    assert outcomes.hear(type="error", data="no", code="denied", id=ids["a"])
    assert outcomes.hear(type="error", data="no", code="publish_denied", id=published)
    assert outcomes.hear(type="subscribed", channel="c", id=ids["c"])
    refused, unpublished = outcomes.settled["a"], outcomes.settled["d"]
    assert isinstance(refused, SubscriptionRefusedError)
    assert (refused.channel, refused.code) == ("a", "denied")
    assert isinstance(unpublished, PublishRefusedError)
    assert outcomes.settled["b"] is outcomes.settled["c"] is None
    assert outcomes.hear(type="pong")
    assert not outcomes.hear(type="pong")


def test_a_hub_that_answers_no_ids_has_served_what_was_before_its_pong() -> None:
    outcomes = Outcomes()
    outcomes.ask("a")
    outcomes.ask("b", is_subscription=False)
    outcomes.requests.ping()
    outcomes.ask("c")
    outcomes.requests.ping()
    assert outcomes.hear(type="pong")
    assert outcomes.settled["a"] is None
    assert isinstance(outcomes.settled["b"], PublishRefusedError)
    assert "c" not in outcomes.settled
    assert outcomes.hear(type="error", data="Subscribe: subscription unauthorised")
    assert isinstance(outcomes.settled["c"], SubscriptionRefusedError)
    assert outcomes.hear(type="pong")


def test_a_refusal_that_could_be_for_several_is_for_the_application() -> None:
    outcomes = Outcomes()
    for channel in "ab":
        outcomes.ask(channel)
    outcomes.requests.ping()
    assert not outcomes.hear(type="error", data="subscription limit exceeded")
    assert not outcomes.hear(type="error", data="something else")
    assert outcomes.settled == {}


def test_what_the_application_asks_is_answered_to_the_application() -> None:
    outcomes = Outcomes()
    pongs = []
    outcomes.requests.ping(lambda: pongs.append("first"))
    outcomes.requests.ping(is_own=False)
    outcomes.requests.ping(lambda: pongs.append("third"))
    assert [outcomes.hear(type="pong") for _ in range(4)] == [True, False, True, False]
    assert pongs == ["first", "third"]
    assert not outcomes.hear(type="subscribed", channel="a", id="its own")
    assert not outcomes.hear(type="subscribed", channel="a")
    assert not outcomes.hear(type="error", data=5, id=[1], code={"a": 1})


def test_a_lost_connection_ends_all_requests() -> None:
    outcomes = Outcomes()
    lost = LostError(1006, "")
    for channel in "ab":
        outcomes.ask(channel)
    outcomes.requests.ping()
    outcomes.requests.abandon(lost)
    assert outcomes.settled == {"a": lost, "b": lost}
    assert not outcomes.hear(type="pong")


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["ask", "ping", "foreign ping", "pong", "answer", "refuse"]),
        ),
        max_size=40,
    ),
    st.data(),
)
def test_each_request_is_settled_once_and_pongs_go_to_whom_they_are_for(
    steps: list[str], data: st.DataObject
) -> None:
    outcomes = Outcomes()
    open_ids: dict[str, str] = {}
    pings: list[bool] = []
    for number, step in enumerate(steps):
        open_ids = {name: each for name, each in open_ids.items() if name not in outcomes.settled}
        if step == "ask":
            open_ids[str(number)] = outcomes.ask(str(number))
        elif step == "ping":
            outcomes.requests.ping()
            pings.append(True)
        elif step == "foreign ping":
            outcomes.requests.ping(is_own=False)
            pings.append(False)
        elif step == "pong":
            assert outcomes.hear(type="pong") == (pings.pop(0) if pings else False)
        elif open_ids:
            name = data.draw(st.sampled_from(sorted(open_ids)))
            kind = "subscribed" if step == "answer" else "error"
            assert outcomes.hear(type=kind, id=open_ids[name], data="x")
            assert (outcomes.settled[name] is None) == (step == "answer")
    asked = {str(number) for number, step in enumerate(steps) if step == "ask"}
    outcomes.requests.abandon(LostError(1006, ""))
    assert set(outcomes.settled) == asked
