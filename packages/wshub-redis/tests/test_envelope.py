"""Envelopes on Redis, to the byte."""

import contextlib
import json
import os
import re

import pytest
from forking import fork
from hypothesis import given
from hypothesis import strategies as st

from wshub_core import MessageDecodeError
from wshub_redis.envelope import OVERHEAD_BYTES, EnvelopeWriter, decode_envelope


def test_an_envelope_has_the_fields_that_hubs_of_go_ws_read() -> None:
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


def test_an_envelope_of_a_go_ws_hub_is_decoded() -> None:
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
def test_data_that_is_no_envelope_is_rejected(data: bytes) -> None:
    with pytest.raises(MessageDecodeError, match="not an envelope"):
        decode_envelope(data)


@given(st.binary(max_size=200))
def test_any_data_is_decoded_or_rejected(data: bytes) -> None:
    with contextlib.suppress(MessageDecodeError):
        decode_envelope(data)


def test_source_ids_are_unique() -> None:
    assert len({EnvelopeWriter().source_id for _ in range(1_000)}) == 1_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_a_new_source() -> None:
    writer = EnvelopeWriter()
    writer.write(b"{}")
    read_end, write_end = os.pipe()
    child = fork()
    if child == 0:
        os.write(write_end, writer.write(b"{}"))
        os._exit(0)
    envelope = decode_envelope(os.read(read_end, 1_000))
    os.waitpid(child, 0)
    os.close(read_end)
    os.close(write_end)
    assert envelope.source_id != writer.source_id
    assert decode_envelope(writer.write(b"{}")).id == 2
