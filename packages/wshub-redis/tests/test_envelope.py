"""Names and envelopes on Redis, to the byte."""

import contextlib
import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_core import MessageDecodeError
from wshub_redis import InvalidPrefixError
from wshub_redis.envelope import OVERHEAD_BYTES, EnvelopeWriter, LastIDs, decode_envelope
from wshub_redis.names import Names


def test_an_envelope_is_what_hubs_of_go_ws_read() -> None:
    writer = EnvelopeWriter()
    assert re.fullmatch(r"[0-9a-f]{32}", writer.source_id)
    envelope = writer.write(b'{"type":"event"}')
    assert json.loads(envelope) == {
        "sourceId": writer.source_id,
        "id": 1,
        "message": {"type": "event"},
    }
    assert len(envelope) <= len(b'{"type":"event"}') + OVERHEAD_BYTES
    assert decode_envelope(writer.write(b"{}")).id == 2


def test_what_hubs_of_go_ws_write_is_read() -> None:
    data = b'{"sourceId":"id-1-abcdef","message":{"type":"event","data":1.0},"extra":[]}'
    envelope = decode_envelope(data)
    assert (envelope.source_id, envelope.id) == ("id-1-abcdef", None)
    assert bytes(envelope.message) == b'{"type":"event","data":1.0}'
    assert decode_envelope(b'{"message":{}}').source_id == ""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"sourceId":"x"}',
        b'{"sourceId":5,"message":{}}',
        b'{"sourceId":"x","id":"1","message":{}}',
        b'{"sourceId":"x","id":-1,"message":{}}',
        b'{"sourceId":"x","id":9007199254740993,"message":{}}',
        b'{"sourceId":"x","id":1.5,"message":{}}',
        b'{"sourceId":"x","id":true,"message":{}}',
        b'{"sourceId":"x","message":{}',
        b'{"sourceId":"\xff","message":{}}',
        b'{"message":' + b"[" * 60_000,
    ],
)
def test_what_is_no_envelope_is_junk(data: bytes) -> None:
    with pytest.raises(MessageDecodeError, match="not an envelope"):
        decode_envelope(data)


@given(st.binary(max_size=200))
def test_anything_is_an_envelope_or_junk(data: bytes) -> None:
    with contextlib.suppress(MessageDecodeError):
        decode_envelope(data)


def test_sources_never_share_an_id() -> None:
    assert len({EnvelopeWriter().source_id for _ in range(1_000)}) == 1_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_is_another_source() -> None:
    writer = EnvelopeWriter()
    writer.write(b"{}")
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.write(write_end, writer.write(b"{}"))
        os._exit(0)
    child = decode_envelope(os.read(read_end, 1_000))
    os.wait()
    os.close(read_end)
    os.close(write_end)
    assert child.source_id != writer.source_id
    assert decode_envelope(writer.write(b"{}")).id == 2


def test_what_comes_a_second_time_is_told() -> None:
    last = LastIDs(60)
    assert [last.is_new("a", b"c", number, 0) for number in (1, 2, 5, 2, 5, 6)] == [
        *(True, True, True),
        *(False, False, True),
    ]
    assert last.is_new("b", b"c", 1, 0)
    assert last.is_new("a", b"other", 1, 0)
    # Hubs of go-ws number nothing.
    assert all(last.is_new("c", b"c", None, 0) for _ in range(2))
    assert all(last.is_new("", b"c", 1, 0) for _ in range(2))


@pytest.mark.parametrize("forged", [1_000, 2**32, 2**53])
def test_a_forged_id_silences_its_source_for_a_while_only(forged: int) -> None:
    last = LastIDs(60)
    assert last.is_new("a", b"c", 1, 0)
    assert last.is_new("a", b"c", forged, 10)
    assert not last.is_new("a", b"c", 2, 11)
    # Repeating it prolongs nothing.
    assert not last.is_new("a", b"c", forged, 69)
    assert not last.is_new("a", b"c", 3, 69)
    assert last.is_new("a", b"c", 4, 70)
    # From then on, duplicates of the true source are told again.
    assert not last.is_new("a", b"c", 4, 71)
    assert last.is_new("a", b"c", 5, 71)


def test_a_second_copy_is_told_as_long_as_one_can_come() -> None:
    last = LastIDs(60)
    assert last.is_new("a", b"c", 7, 0)
    assert not last.is_new("a", b"c", 7, 59.9)


def test_sources_that_were_silent_longest_are_forgotten() -> None:
    last = LastIDs(60, limit=2)
    assert last.is_new("a", b"c", 1, 0)
    assert last.is_new("b", b"c", 1, 0)
    assert last.is_new("a", b"c", 2, 0)
    assert last.is_new("c", b"c", 1, 0)
    assert not last.is_new("a", b"c", 2, 0)
    assert last.is_new("b", b"c", 1, 0)


def test_channels_have_the_names_that_go_ws_gives_them() -> None:
    names = Names("ws")
    assert names.broadcast == b"ws:broadcast"
    assert names.channel("") == b"ws:broadcast"
    assert names.channel("process:build-42") == b"ws:channel:process:build-42"
    for channel in ("", "process:build-42", "broadcast", "channel:x"):
        assert names.parse(names.channel(channel)) == channel


@pytest.mark.parametrize("prefix", ["ws", "a:b", "channel", "broadcast", "my-app.1_x", "x" * 256])
def test_these_prefixes_are_allowed(prefix: str) -> None:
    assert Names(prefix).channel("c") == f"{prefix}:channel:c".encode()


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("", "use 1 to 256"),
        ("a b", "use 1 to 256"),
        ("ws*", "use 1 to 256"),
        ("x" * 257, "use 1 to 256"),
        ("ws:channel", "parts of the names"),
        ("ws:broadcast", "parts of the names"),
        ("ws:channel:x", "parts of the names"),
    ],
)
def test_these_prefixes_are_refused(prefix: str, why: str) -> None:
    with pytest.raises(InvalidPrefixError, match=why):
        Names(prefix)
