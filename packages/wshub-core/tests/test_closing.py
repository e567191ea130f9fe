import pytest
from websockets.frames import Close

from wshub_core import CloseCode, InvalidCloseError
from wshub_core.values.closing import validate_close


@pytest.mark.parametrize("code", [*CloseCode, 3000, 4001, 4999])
def test_codes_that_the_protocol_allows_are_valid(code: int) -> None:
    validate_close(code, "")
    Close(code, "").check()


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 2000, 2999, 5000])
def test_other_codes_are_refused(code: int) -> None:
    with pytest.raises(InvalidCloseError, match=f"close code {code} must not be sent"):
        validate_close(code, "")


def test_a_reason_must_fit_into_a_close_frame() -> None:
    validate_close(1000, "ü" * 61 + "x")
    with pytest.raises(InvalidCloseError, match="124 bytes"):
        validate_close(1000, "ü" * 62)


def test_a_reason_must_be_utf8() -> None:
    with pytest.raises(InvalidCloseError, match="lone surrogate"):
        validate_close(1000, "\ud800")
