import contextlib
import json
from collections import ChainMap, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from math import inf, nan
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_core import (
    Message,
    MessageDecodeError,
    MessageEncodeError,
    MessageType,
    decode_message,
    encode_message,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
messages = st.builds(
    Message,
    type=texts,
    channel=texts,
    process_id=texts,
    data=json_values,
    timestamp=st.none() | st.datetimes(datetime(2, 1, 2), timezones=st.just(UTC) | zones),
)


@given(messages)
def test_decoding_an_encoded_message_gives_the_same_message(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(messages)
def test_a_message_is_one_json_object_on_one_line(message: Message) -> None:
    payload = encode_message(message)
    assert b"\n" not in payload
    decoded = json.loads(payload)
    assert decoded["type"] == message.type
    assert ("channel" in decoded) == (message.channel != "")
    assert ("processId" in decoded) == (message.process_id != "")
    assert ("data" in decoded) == (message.data is not None)
    assert ("timestamp" in decoded) == (message.timestamp is not None)


@pytest.mark.parametrize("data", ["", False, 0, [], {}])
def test_only_none_is_omitted_from_the_data(data: Any) -> None:
    assert json.loads(encode_message(Message(type="t", data=data))) == {"type": "t", "data": data}


def test_the_wire_form_of_a_process_status() -> None:
    message = Message(
        type=MessageType.PROCESS_STATUS,
        channel="process:a",
        process_id="a",
        data={"exitCode": 0, "status": "exited"},
        timestamp=datetime(2026, 11, 23, 4, 14, 16, 618311, tzinfo=UTC),
    )
    assert encode_message(message) == (
        b'{"type":"process_status","channel":"process:a","processId":"a",'
        b'"data":{"exitCode":0,"status":"exited"},"timestamp":"2026-11-23T04:14:16.618311Z"}'
    )


def test_an_empty_type_is_written() -> None:
    assert encode_message(Message(type="")) == b'{"type":""}'


@pytest.mark.parametrize(
    "data", [nan, inf, -inf, [1, {"a": nan}], {"a": None, "b": [inf]}, (nan,), {nan: inf}]
)
def test_nan_and_infinity_are_refused(data: Any) -> None:
    with pytest.raises(MessageEncodeError, match="failed to marshal message: JSON has no NaN"):
        encode_message(Message(type="t", data=data))


def test_a_null_beside_finite_numbers_is_allowed() -> None:
    assert b'"data":{"a":null,"b":1.5}' in encode_message(
        Message(type="t", data={"a": None, "b": 1.5})
    )


def test_data_that_json_cannot_represent_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for data in (object(), print, "\ud800", {(1, 2): 3}, endless):
        with pytest.raises(MessageEncodeError, match="failed to marshal message"):
            encode_message(Message(type="t", data=data))


def test_too_deep_nesting_is_refused() -> None:
    data: list[Any] = [None]
    for _ in range(100_000):
        data = [data]
    with pytest.raises(MessageEncodeError, match="nested too deeply"):
        encode_message(Message(type="t", data=data))
    data = [None]
    for _ in range(500):
        data = [data]
    with contextlib.suppress(MessageEncodeError):
        encode_message(Message(type="t", data=data))


@pytest.mark.parametrize(
    "field", ["channel", "processId", "data", "timestamp", "overwrites", "epoch", "offset"]
)
def test_a_null_field_counts_as_absent(field: str) -> None:
    payload = json.dumps({"type": "t", field: None, "x": 2**64})
    assert decode_message(payload) == decode_message(payload.encode()) == Message(type="t")


@pytest.mark.parametrize("context", [None, 5, {}, [], True, "x"])
def test_an_invalid_trace_context_counts_as_absent(context: Any) -> None:
    payload = json.dumps({"type": "t", "data": 10**20, "traceparent": context})
    assert decode_message(payload) == Message(type="t", data=10**20)
    with pytest.raises(MessageDecodeError, match=r"\$\.channel"):
        decode_message(json.dumps({"type": "t", "channel": 5, "traceparent": context}))


def test_a_timestamp_without_a_zone_is_refused() -> None:
    naive = datetime(2026, 1, 1)
    with pytest.raises(MessageEncodeError, match="no time zone"):
        encode_message(Message(type="t", timestamp=naive))


@pytest.mark.parametrize("number", [2**53 + 1, 2**64, 10**300, -(10**40)])
def test_big_integers_are_encoded_exactly(number: int) -> None:
    assert str(number).encode() in encode_message(Message(type="t", data=number))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"type":null}',
        b'{"type":1}',
        b'{"type":"t","channel":5}',
        b'{"type":"t","timestamp":"2026-11-23T04:14:16"}',
        b'{"type":"t","timestamp":""}',
        b'{"type":"t","timestamp":1}',
        b'{"type":"t","data":NaN}',
        b'{"type":"t"}{"type":"t"}',
        b'{"type":"\xff"}',
        b"[" * 60_000,
        b'{"type":"t","data":' + b"[" * 60_000 + b"]" * 60_000 + b"}",
        b'{"type":"t","data":' + b"9" * 5_000 + b"}",
    ],
)
def test_a_payload_that_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageDecodeError, match="not a message"):
        decode_message(payload)


@given(st.binary(max_size=60))
def test_decoding_raises_no_other_error(payload: bytes) -> None:
    with contextlib.suppress(MessageDecodeError):
        decode_message(payload)


def test_unknown_fields_are_ignored() -> None:
    assert decode_message(b'{"type":"t","id":7,"TYPE":"x"}') == Message(type="t")


def test_nanoseconds_and_offsets_are_read() -> None:
    message = decode_message(b'{"type":"t","timestamp":"2026-11-23T04:14:16.618311291+01:00"}')
    assert message.timestamp == datetime(
        2026, 11, 23, 4, 14, 16, 618311, tzinfo=timezone(timedelta(hours=1))
    )


@pytest.mark.parametrize("timestamp", [b"null", b'"0001-01-01T00:00:00Z"'])
def test_null_and_the_zero_time_of_go_count_as_no_timestamp(timestamp: bytes) -> None:
    payload = b'{"type":"t","timestamp":' + timestamp + b"}"
    assert decode_message(payload).timestamp is None


# Objects with one plain form in JSON.


class Text(str):
    __slots__ = ()


class Number(float):
    pass


class Count(int):
    pass


class Model:
    """A class with the method of pydantic models."""

    def model_dump(self, mode: str) -> dict[str, str]:
        return {"mode": mode}


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    y: object = None


class Moment(datetime):
    pass


class Key(UUID):
    pass


@pytest.mark.parametrize(
    ("data", "written"),
    [
        (Text("süß"), "süß"),
        (Number(1.5), 1.5),
        (Count(2**60), 2**60),
        ({Text("key"): Text("value")}, {"key": "value"}),
        (MappingProxyType({"roles": ("a", frozenset({"b"}))}), {"roles": ["a", ["b"]]}),
        (ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
        (deque([1, 2]), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (Color.RED, "red"),
        (Point(1.5, Count(3)), {"x": 1.5, "y": 3}),
        (Model(), {"mode": "json"}),
        ([Model()], [{"mode": "json"}]),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Key(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (Moment(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
    ],
)
def test_objects_with_one_plain_form_are_encoded(data: Any, written: Any) -> None:
    assert json.loads(encode_message(Message(type="t", data=data)))["data"] == written
    assert json.loads(encode_message(Message(type="t", data=[None, data])))["data"][1] == written


def test_the_fields_of_a_message_may_be_of_subclasses() -> None:
    message = Message(type=Text("t"), channel=Text("c"), process_id=Text("p"))
    assert json.loads(encode_message(message)) == {"type": "t", "channel": "c", "processId": "p"}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            {"user": {"seen": [1, object()]}},
            r"JSON has no form for object (at data['user']['seen'][1])",
        ),
        (Point(1.0, [print]), "JSON has no form for builtin_function_or_method (at data.y[0])"),
        (
            [{"a": {"b": "\ud83d"}}],
            "has a lone surrogate, which UTF-8 cannot encode (at data[0]['a']['b'])",
        ),
        ({"a": None, "b": {"c": nan}}, "JSON has no NaN and no infinity (at data['b']['c'])"),
        ({"a": Number(inf)}, "JSON has no NaN and no infinity (at data['a'])"),
        ({"a": {True: 1}}, "JSON objects have strings as keys (at data['a'])"),
        ({"a": {None: 1}}, "JSON objects have strings as keys (at data['a'])"),
        (object(), "JSON has no form for object (at data)"),
        (Model, "JSON has no form for type (at data)"),
    ],
)
def test_the_error_names_the_value_that_cannot_be_encoded_and_its_place(
    data: Any, text: str
) -> None:
    with pytest.raises(MessageEncodeError) as raised:
        encode_message(Message(type="t", data=data))
    assert text in str(raised.value)


def test_a_model_that_raises_causes_an_encode_error() -> None:
    class Broken:
        def model_dump(self, mode: str) -> object:
            raise LookupError("mistake")

    with pytest.raises(MessageEncodeError, match="LookupError: mistake"):
        encode_message(Message(type="t", data=[Broken()]))


@pytest.mark.parametrize("field", ["type", "channel", "process_id"])
def test_a_field_of_another_type_is_refused(field: str) -> None:
    fields: dict[str, Any] = {"type": "t", field: 5}
    with pytest.raises(MessageEncodeError, match=f"{field} must be a str, not int"):
        encode_message(Message(**fields))
