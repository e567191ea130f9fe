"""The fast path of reading: whole text frames and pongs of a client, parsed in one step.

Nearly all frames of clients are complete text messages, and pongs. They are parsed here, at a tenth
of the cost. All other frames, valid or not, go to the Sans-I/O layer of `websockets`, which needs
to get them from their first byte to their last. `frame_end` says where they end.
"""

from collections.abc import Callable

try:
    from websockets.speedups import apply_mask as _apply_mask
except ImportError:  # no compiled version for this platform
    from websockets.utils import apply_mask as _apply_mask

_apply: Callable[[bytes, bytes], bytes] = _apply_mask

_FINAL_TEXT = 0x81
_PONG = 0x8A
_MASKED = 0x80
_LENGTH = 0x7F


def read_text(data: bytes, start: int, max_bytes: int) -> tuple[bytes, int] | None:
    """Read a frame that is a whole text message (RFC 6455 section 5.2).

    Args:
        data: Received bytes.
        start: Index of the first byte of the frame.
        max_bytes: Maximum size of the payload.

    Returns:
        The payload, which may be invalid UTF-8, and the index behind the frame. None for any other
        frame, and for a frame whose end has not arrived.
    """
    received = len(data) - start
    if received < 6 or data[start] != _FINAL_TEXT:
        return None
    # Negative without a mask; the values 126 and 127 announce a length in the next 2 or 8 bytes.
    length = data[start + 1] - _MASKED
    payload = start + 6
    if length == 126:
        length = data[start + 2] << 8 | data[start + 3]
        payload = start + 8
    elif length == 127:
        return None
    end = payload + length
    if not 0 <= length <= max_bytes or end > len(data):
        return None
    return _apply(data[payload:end], data[payload - 4 : payload]), end


def pong_end(data: bytes, start: int) -> int | None:
    """Return the index behind a pong without a payload, which needs no answer; None if it is none.

    Args:
        data: Received bytes.
        start: Index of the first byte of the frame.
    """
    end = start + 6
    is_pong = data[start] == _PONG and len(data) >= end and data[start + 1] == _MASKED
    return end if is_pong else None


def frame_end(data: bytes, start: int) -> int | None:
    """Return the index behind a frame; None if its length has not arrived.

    Args:
        data: Received bytes.
        start: Index of the first byte of the frame, which may be invalid.
    """
    header = data[start : start + 10]
    if len(header) < 2:
        return None
    size = header[1] & _LENGTH
    extended = {126: 2, 127: 8}.get(size, 0)
    if len(header) < 2 + extended:
        return None
    length = int.from_bytes(header[2 : 2 + extended]) if extended else size
    return start + 2 + extended + (4 if header[1] & _MASKED else 0) + length
