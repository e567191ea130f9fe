"""The quick check of messages of other hubs, against the full examination."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from wshub_core import Message, WSHubError, encode_message
from wshub_core.protocol.forwarded import examine_forwarded, normalize_forwarded

NOW = datetime(2026, 11, 29, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)
usual = {
    "type": st.sampled_from(["event", "error", "ping", "presence", "\u00e9", "history_cleared"]),
    "channel": st.sampled_from(["news", "news", "news", ""]),
    "process_id": st.sampled_from(["", "", "b", "a b"]),
    "data": json_values,
    "timestamp": st.datetimes(datetime(1, 1, 2), timezones=st.just(UTC)),
    "overwrites": st.booleans(),
}
unusual = {
    "type": st.just(""),
    "channel": st.sampled_from(["other", "no spaces", "process:a:b"]),
    "timestamp": st.none(),
    "epoch": st.sampled_from(["", "e"]),
    "offset": st.integers(0, 1),
}
messages = st.one_of(
    st.builds(Message, **usual),
    st.builds(Message, **usual),
    *(st.builds(Message, **usual | {name: values}) for name, values in unusual.items()),
)
replacements: list[tuple[bytes, bytes]] = [
    (b":", b": "),
    (b",", b",\n"),
    (b",", b" ,"),
    (b'"timestamp":', b'"data":null,"timestamp":'),
    (b'"timestamp":', b'"overwrites":false,"timestamp":'),
    (b'"timestamp":', b'"id":1,"timestamp":'),
    (b'"timestamp":', b'"channel":"news","timestamp":'),
    (b'"channel"', b'"ch\\u0061nnel"'),
    (b'"event"', b'"ev\\u0065nt"'),
    (b'"data":', b'"data":"\xff","data":'),
    (b'"data":"', b'"data":"\xff'),
    (b'"data":', b'"data":\n'),
    (b'Z"', b'+00:00"'),
    (b'Z"', b'000Z"'),
    (b"T", b" "),
    (b"}", b',"more":1}'),
    (b"}", b"} "),
    (b"}", b""),
]


def message(data: object) -> Message:
    return Message(type="event", channel="news", data=data, timestamp=NOW)


def outcome(function: Any, payload: bytes, channel: str) -> object:
    try:
        return function(payload, channel, NOW)
    except WSHubError as error:
        return type(error), str(error)


@settings(max_examples=1_000)
@given(messages, st.none() | st.sampled_from(replacements), st.sampled_from(["news", "news", ""]))
@example(message(None), (b'"timestamp":', b'"data":null,"timestamp":'), "news")
@example(message("x"), (b'"x"', b'"\xff"'), "news")
@example(message([1]), (b"[", b"[\n"), "news")
def test_the_quick_check_changes_no_outcome(
    original: Message, replacement: tuple[bytes, bytes] | None, channel: str
) -> None:
    payload = encode_message(original)
    if replacement is not None:
        payload = payload.replace(*replacement, 1)
    expected = outcome(examine_forwarded, payload, channel)
    assert outcome(normalize_forwarded, payload, channel) == expected


def test_a_message_of_a_hub_is_passed_on_as_it_is() -> None:
    payload = encode_message(message([1, None]))
    assert normalize_forwarded(payload, "news", NOW) is payload
