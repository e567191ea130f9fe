import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_core import Message
from wshub_core.protocol.client_frames import (
    Malformed,
    Other,
    Ping,
    Subscribe,
    Unsubscribe,
    read_client_frame,
)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"type": "subscribe", "channel": "a"}, Subscribe("a")),
        ({"type": "subscribe", "data": "a"}, Subscribe("a")),
        ({"type": "subscribe", "channel": "a", "data": "b"}, Subscribe("a")),
        ({"type": "subscribe", "channel": "", "data": "b"}, Subscribe("b")),
        ({"type": "subscribe", "channel": None, "data": "b"}, Subscribe("b")),
        ({"type": "subscribe", "channel": "a", "data": {"x": [1]}}, Subscribe("a")),
        ({"type": "subscribe", "data": ""}, Subscribe("")),
        ({"type": "unsubscribe", "channel": "a"}, Unsubscribe("a")),
        ({"type": "unsubscribe", "data": "a"}, Unsubscribe("a")),
        ({"type": "ping"}, Ping()),
        ({"type": "ping", "channel": "a", "processId": 5, "timestamp": "never"}, Ping()),
    ],
)
def test_frames_with_commands_are_parsed(frame: dict[str, Any], expected: object) -> None:
    assert read_client_frame(json.dumps(frame).encode()) == expected
    assert read_client_frame(json.dumps(frame).encode() + b"\n") == expected


@pytest.mark.parametrize("name", ["PING", "event", "custom", ""])
def test_other_types_are_messages_for_the_application(name: str) -> None:
    payload = json.dumps({"type": name, "channel": "a", "data": [1]}).encode()
    assert read_client_frame(payload) == Other(Message(type=name, channel="a", data=[1]))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"junk",
        b"null",
        b"[]",
        b'"subscribe"',
        b"{}",
        b'{"type":1,"channel":"a"}',
        b'{"type":"subscribe"}',
        b'{"type":"subscribe","channel":5}',
        b'{"type":"subscribe","channel":5,"data":"a"}',
        b'{"type":"subscribe","data":5}',
        b'{"type":"subscribe","data":["a"]}',
        b'{"type":"subscribe","channel":"","data":null}',
        b'{"type":"custom","channel":5}',
        b'{"type":"custom","timestamp":"yesterday"}',
        b'{"type":"ping"}\n{"type":"ping"}',
        b'{"type":"ping"',
        b"\xff\xfe\x00",
        b'{"type":"subscribe","channel":"\xff"}',
        b"[" * 60_000,
        b'{"type":"subscribe","data":' + b"[" * 60_000 + b"]" * 60_000 + b"}",
        b'{"type":"subscribe","data":' + b"9" * 5_000 + b"}",
    ],
)
def test_malformed_frames_without_an_id_give_none(payload: bytes) -> None:
    assert read_client_frame(payload) is None


DEEP = b"[" * 30_000 + b"]" * 30_000


@pytest.mark.parametrize(
    ("payload", "frame_id"),
    [
        (b'{"type":"event","id":3,"channel":"c","data":"\\ud83d"}', 3),
        (b'{"type":"event","channel":"c","data":"\\ud83d","id":"a-1"}', "a-1"),
        (b'{"type":"subscribe","id":1,"channel":5}', 1),
        (b'{"type":"subscribe","id":1}', 1),
        (b'{"type":5,"id":-1}', -1),
        (b'{"id":1}', 1),
        (b'{"type":"event","data":%b,"id":1}' % DEEP, 1),
        (b'{"type":"x","data":{"id":2,"x":["id",{"id":3}]},"id" : 1 ,"timestamp":"never"}', 1),
        (b'{"type":"x","data":"\\"id\\":2","id":1,"timestamp":"never"}', 1),
        (b'{"type":"x","data":1e999,"id":1}', 1),
        (b'{"type":"x","data":%b,"id":1}' % (b"9" * 5_000), 1),
        (b'{"type":"x","data":"\xff","id":1}', 1),
        (b'{"type":"x","id":1,}', 1),
    ],
)
def test_a_malformed_frame_with_an_id_has_a_description(payload: bytes, frame_id: object) -> None:
    frame = read_client_frame(payload)
    assert isinstance(frame, Malformed)
    assert frame.id == frame_id
    assert frame.why


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":5,"id":1.5}',
        b'{"type":5,"id":{}}',
        b'{"type":5,"id":9007199254740993}',
        b'{"type":5,"id":"%b"}' % (b"x" * 129),
        b'{"type":5,"id":"\\ud83d"}',
        b'{"type":5,"id":"unfinished',
        b'{"type":5,"data":{"id":1}}',
        b'["id",1',
        b'"' + b"\\" * 60_000,
        b"[{" * 30_000 + b'"id":1}',
    ],
)
def test_a_malformed_frame_without_a_valid_id_is_ignored(payload: bytes) -> None:
    assert read_client_frame(payload) is None


@given(
    st.binary(max_size=80) | st.text(max_size=40).map(lambda text: text.encode(errors="replace"))
)
def test_no_frame_raises_an_exception(payload: bytes) -> None:
    read_client_frame(payload)
