"""The field ``history`` of a subscribe frame, and the plan of the answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_core import InvalidHistoryRequestError
from wshub_core.protocol.recovery import (
    HistoryRequest,
    decode_history_request,
    describe_plan,
    plan_recovery,
)

MAX = 2**53 - 1

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(-(2**70), 2**70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["last", "since", "epoch", "other", "Last", ""])


@pytest.mark.parametrize(
    ("raw", "request_"),
    [
        ("null", None),
        ('{"last":0}', HistoryRequest(last=0)),
        ('{"last":9007199254740991}', HistoryRequest(last=MAX)),
        ('{"since":0}', HistoryRequest(since=0)),
        ('{"since":7,"epoch":"k3xw8r2m"}', HistoryRequest(since=7, epoch="k3xw8r2m")),
        ('{"since":7,"epoch":null,"last":null}', HistoryRequest(since=7)),
        ('{"since":7,"epoch":""}', HistoryRequest(since=7, epoch="")),
    ],
)
def test_valid_requests_are_decoded(raw: str, request_: HistoryRequest | None) -> None:
    assert decode_history_request(raw.encode()) == request_


@pytest.mark.parametrize(
    "raw",
    [
        "{}",
        "[]",
        "1",
        "true",
        '"last"',
        '{"last":-1}',
        '{"last":1.5}',
        '{"last":1e400}',
        '{"last":true}',
        '{"last":"5"}',
        '{"last":9007199254740992}',
        '{"last":1,"since":1}',
        '{"last":1,"epoch":"k3xw8r2m"}',
        '{"epoch":"k3xw8r2m"}',
        '{"since":-1}',
        '{"since":null}',
        '{"since":[1]}',
        '{"since":1,"epoch":7}',
        '{"since":1,"epoch":{}}',
        '{"since":1,"limit":5}',
        '{"since":1,"epoch":"' + "x" * 65 + '"}',
        '{"since":1',
        '{"since":1}}',
        '{"since":' + "[" * 5_000 + "]" * 5_000 + "}",
    ],
)
def test_other_requests_are_refused(raw: str) -> None:
    with pytest.raises(InvalidHistoryRequestError):
        decode_history_request(raw.encode())


def test_a_request_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InvalidHistoryRequestError):
        decode_history_request(b'{"since":1,"epoch":"\xff"}')


@given(value=st.dictionaries(names, json_values, max_size=4) | json_values)
def test_any_json_is_refused_or_a_request_that_makes_sense(value: Any) -> None:
    try:
        request = decode_history_request(json.dumps(value).encode())
    except InvalidHistoryRequestError:
        return
    if request is None:
        assert value is None
        return
    assert set(value) <= {"last", "since", "epoch"}
    asked = [each for each in (request.last, request.since) if each is not None]
    assert len(asked) == 1
    assert type(asked[0]) is int
    assert 0 <= asked[0] <= MAX


@given(raw=st.binary(max_size=40))
def test_any_bytes_are_refused_or_decoded(raw: bytes) -> None:
    try:
        request = decode_history_request(raw)
    except InvalidHistoryRequestError:
        return
    assert request is None or isinstance(request, HistoryRequest)


offsets = st.integers(0, 30)


@given(
    kept=offsets,
    offset=offsets,
    wish=st.tuples(st.sampled_from(["last", "since"]), st.integers(0, 40) | st.just(MAX)),
    epoch=st.sampled_from([None, "this", "other"]),
)
def test_a_plan_says_what_is_missing(
    kept: int, offset: int, wish: tuple[str, int], epoch: str | None
) -> None:
    first = offset + 1 - min(kept, offset)
    name, number = wish
    request = (
        HistoryRequest(last=number) if name == "last" else HistoryRequest(since=number, epoch=epoch)
    )
    plan = plan_recovery(request, "this", first, offset)
    existing, kept_offsets = {*range(1, offset + 1)}, {*range(first, offset + 1)}
    sent = {*range(plan.after + 1, offset + 1)}
    assert sent <= kept_offsets
    if request.epoch == "other":
        assert (plan.reason, plan.missing, sent) == ("foreign_epoch", None, kept_offsets)
        return
    if name == "since" and number > offset:
        assert (plan.reason, plan.missing, sent) == ("future_offset", None, kept_offsets)
        return
    wanted = {each for each in existing if each > (offset - number if name == "last" else number)}
    missing = wanted - kept_offsets
    assert sent == wanted - missing
    assert plan.missing == (len(missing) or None)
    assert plan.reason == ("trimmed" if missing else "")
    fields = describe_plan(plan)
    assert fields["recovered"] is not bool(missing)
    assert ("reason" in fields) == ("missing" in fields) == bool(missing)
