import pytest
from websockets.frames import Frame, Opcode

from wshub_core.protocol.prepared import PreparedMessage


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_the_frame_equals_the_frame_of_websockets(length: int) -> None:
    message = PreparedMessage(b"x" * length)
    assert message.frame == Frame(Opcode.TEXT, message.payload).serialize(mask=False)
    assert message.size == len(message.frame)
