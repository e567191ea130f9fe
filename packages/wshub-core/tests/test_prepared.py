import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from wshub_core.protocol.prepared import PreparedMessage, PreparedPage, payload_of


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_the_frame_equals_the_frame_of_websockets(length: int) -> None:
    message = PreparedMessage(b"x" * length)
    assert message.frame == Frame(Opcode.TEXT, message.payload).serialize(mask=False)
    assert message.size == len(message.frame)


@given(lengths=st.lists(st.sampled_from([0, 1, 125, 126, 65_535, 65_536, 70_000]), max_size=6))
def test_a_page_has_the_frames_and_the_payloads_of_its_messages(lengths: list[int]) -> None:
    messages = [PreparedMessage(b"%d" % n * length) for n, length in enumerate(lengths)]
    page = PreparedPage([message.frame for message in messages])
    assert page.frame == b"".join(message.frame for message in messages)
    assert page.size == len(page.frame)
    assert page.count == len(messages)
    assert page.payloads == [message.payload for message in messages]
    assert [payload_of(message.frame) for message in messages] == page.payloads
