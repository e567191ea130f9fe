"""Events and ids without a hub: forms, line ends, and every position exactly once."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_core import InvalidHistoryRequestError
from wshub_core.protocol.event_ids import EventIDs, read_event_id
from wshub_core.protocol.prepared import PreparedMessage, PreparedPage
from wshub_core.protocol.recovery import HistoryRequest
from wshub_core.protocol.server_sent_events import SentEvent, encode_close, encode_event
from wshub_core.values.history import MAX_OFFSET, Position


def message(channel: str, epoch: str, offset: int, type_: str = "event") -> SentEvent:
    fields = {"type": type_, "channel": channel, "epoch": epoch, "offset": offset}
    return encode_event(json.dumps(fields).encode())


def answer(channel: str, epoch: str, after: int) -> SentEvent:
    data = {"epoch": epoch, "offset": 99, "first": 1, "after": after}
    fields = {"type": "subscribed", "channel": channel, "data": data}
    return encode_event(json.dumps(fields).encode())


def ids(text: bytes) -> list[str]:
    return [line[4:] for line in text.decode().split("\n") if line.startswith("id: ")]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\r\r", "\n\n"])
def test_a_line_end_in_a_message_cannot_begin_a_field(end: str) -> None:
    text = encode_event(f'{{"type":"a",{end}"data":{end}1}}'.encode()).text
    assert b"\r" not in text
    lines = text.decode().removesuffix("\n\n").split("\n")
    assert all(line.startswith("data: ") for line in lines)
    assert json.loads("\n".join(line[6:] for line in lines)) == {"type": "a", "data": 1}


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.lists(st.text())))
def test_any_object_is_one_event(fields: dict[str, object]) -> None:
    event = encode_event(json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace"))
    assert event.text.endswith(b"\n\n")
    assert event.text.count(b"\n\n") == 1


def test_a_position_in_the_data_of_an_application_is_none() -> None:
    data = {"epoch": "a", "offset": 1}
    payload = json.dumps({"type": "event", "channel": "a", "data": data}).encode()
    assert encode_event(payload).position is None


def test_an_event_is_encoded_once() -> None:
    prepared = PreparedMessage(b'{"type":"a"}')
    assert prepared.events is prepared.events
    page = PreparedPage([prepared.frame, prepared.frame])
    assert page.events is page.events
    assert [event.text for event in page.events] == [b'data: {"type":"a"}\n\n'] * 2


def test_a_close_that_asks_for_a_wait_tells_it() -> None:
    assert encode_close(1012, "retry-after: 0").startswith(b"retry: 1000\n\n")
    assert encode_close(1013, "retry-after: 7").startswith(b"retry: 7000\n\nevent: close\n")
    assert encode_close(1000, "x\ny") == b'event: close\ndata: {"code":1000,"reason":"x\\ny"}\n\n'


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        ("", [None, None]),
        (",", [None, None]),
        ("a1:5,", [HistoryRequest(since=5, epoch="a1"), None]),
        ("0,-10", [HistoryRequest(since=0), HistoryRequest(last=10)]),
    ],
)
def test_an_id_asks_for_a_history(text: str, requests: list[HistoryRequest | None]) -> None:
    assert read_event_id(text, 2) == requests


@pytest.mark.parametrize(
    "text",
    [
        *("a1", "a1:", ":5", "-", "--5", "a1:-5", "a b:5", "a1:5\n", "a1:\u0665", "1.5"),
        *(f"a1:{MAX_OFFSET + 1}", "a" * 65 + ":1", "a1:5,", "1" * 100_000, "," * 100_000),
    ],
)
def test_a_malformed_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidHistoryRequestError):
        read_event_id(text, 1)


@given(st.text(max_size=30), st.integers(1, 3))
def test_any_id_is_read_or_refused(text: str, count: int) -> None:
    with contextlib.suppress(InvalidHistoryRequestError):
        assert len(read_event_id(text, count)) == count


def test_each_event_of_a_single_channel_has_its_id() -> None:
    events = EventIDs(["a"], [None])
    text, is_whole = events.join([answer("a", "x", 4), message("a", "x", 5), message("a", "x", 6)])
    assert is_whole
    assert ids(text) == ["x:4", "x:5", "x:6"]


def test_an_id_has_the_position_of_each_channel() -> None:
    events = EventIDs(["a", "b", "c"], [None] * 3)
    text, _ = events.join([answer("a", "x", 4), answer("c", "y", 0), message("c", "y", 1)])
    assert ids(text)[-1] == "x:4,,y:1"
    assert read_event_id(ids(text)[-1], 3)[2] == HistoryRequest(since=1, epoch="y")


def test_long_ids_are_rare_and_the_last_event_has_one() -> None:
    channels = [f"c{number}" for number in range(100)]
    events = EventIDs(channels, [None] * 100)
    events.join([answer(channel, "epoch123", 0) for channel in channels])
    text, _ = events.join([message(channel, "epoch123", 1) for channel in channels])
    assert 1 < len(ids(text)) < 20
    assert ids(text)[-1] == ",".join(["epoch123:1"] * 100)


@pytest.mark.parametrize("behind", [message("a", "x", 7), message("a", "z", 6)])
def test_an_event_behind_a_gap_is_left_out(behind: SentEvent) -> None:
    events = EventIDs(["a"], [None])
    text, is_whole = events.join([answer("a", "x", 5), behind, message("a", "x", 6)])
    assert not is_whole
    assert ids(text) == ["x:5"]
    assert events.encode() == b"x:5"


def test_a_gap_affects_only_the_history_of_its_channel() -> None:
    events = EventIDs(["a", "b"], [None] * 2)
    events.join([answer("a", "x", 5), answer("b", "y", 1)])
    live = encode_event(b'{"type":"event","channel":"c"}')
    _, is_whole = events.join([message("a", "x", 7), live])
    assert not is_whole
    behind = [message("b", "y", 2), message("a", "x", 8), notice("history_cleared", epoch="z")]
    text, is_whole = events.join([*behind, message("a", "z", 1), live])
    assert not is_whole
    assert text.count(b"data: ") == 2
    assert ids(text) == ["x:5,y:2"]


def test_messages_before_the_answer_come_again_behind_it() -> None:
    events = EventIDs(["a"], [HistoryRequest(since=2, epoch="x")])
    early = [message("a", "x", 8), message("a", "x", 9)]
    text, is_whole = events.join([*early, answer("a", "x", 2), message("a", "x", 3)])
    assert is_whole
    assert ids(text) == ["x:2", "x:3"]


def test_a_refusal_ends_the_wait_for_the_answer() -> None:
    events = EventIDs(["a"], [HistoryRequest(since=2, epoch="x")])
    # A message of the type "error" that has a position is no refusal.
    events.join([message("a", "x", 8, "error"), message("a", "x", 9)])
    assert events.join([notice("error")]) == (notice("error").text, True)
    assert events.encode() == b"x:2"
    assert events.join([notice("history_position", epoch="y", offset=3)])[1]
    text, is_whole = events.join([message("a", "y", 4), message("a", "y", 5)])
    assert is_whole
    assert ids(text) == ["y:4", "y:5"]
    assert not events.join([message("a", "y", 7)])[1]


def notice(type_: str, **data: object) -> SentEvent:
    return encode_event(json.dumps({"type": type_, "channel": "a", "data": data}).encode())


def test_notices_move_a_position_or_end_the_stream() -> None:
    events = EventIDs(["a"], [None])
    events.join([answer("a", "x", 5)])
    assert events.join([notice("history_position", epoch="x", offset=5)])[1]
    assert events.join([notice("history_cleared", epoch="y"), message("a", "y", 1)])[1]
    assert events.encode() == b"y:1"
    assert not events.join([notice("history_position", epoch="y", offset=2)])[1]
    assert not events.join([notice("history_position", epoch="y", offset=1)])[1]


def test_the_position_of_a_request_stays_while_the_history_is_unavailable() -> None:
    events = EventIDs(["a"], [HistoryRequest(since=2, epoch="x")])
    assert events.join([notice("subscribed", recovered=False, reason="unavailable")])[1]
    assert events.encode() == b"x:2"


@pytest.mark.parametrize("payload", [b'{"type":1}', b"[]", b'{"type":"subscribed","data":[1]}'])
def test_an_event_in_another_form_has_no_position(payload: bytes) -> None:
    assert encode_event(payload).position is None


positions = st.lists(st.integers(0, 2), max_size=60)


@given(positions, st.lists(st.integers(1, 7), min_size=1))
def test_with_any_cut_the_id_is_never_ahead(order: list[int], sizes: list[int]) -> None:
    """After each part, the id is the position of the last event of each channel."""
    names = ["a", "b", "c"]
    stream = EventIDs(names, [None] * 3)
    offsets = [0, 0, 0]
    stream.join([answer(name, "x", 0) for name in names])
    for start in range(0, len(order), 7):
        events = []
        for index in order[start : start + sizes[start % len(sizes)]]:
            offsets[index] += 1
            events.append(message(names[index], "x", offsets[index]))
        text, is_whole = stream.join(events)
        assert is_whole
        if events:
            assert ids(text)[-1] == ",".join(f"x:{offset}" for offset in offsets)


def test_positions_are_compared_as_pairs() -> None:
    assert answer("a", "x", 5).position == Position("x", 5)
