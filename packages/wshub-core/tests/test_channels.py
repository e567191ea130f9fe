import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_core import (
    InvalidChannelError,
    InvalidProcessIDError,
    process_channel,
    validate_channel,
    validate_process_id,
)

PROCESS_ID_CHARACTERS = string.ascii_letters + string.digits + "_.-"
channel_names = st.text(PROCESS_ID_CHARACTERS + ":", min_size=1, max_size=256)
process_ids = st.text(PROCESS_ID_CHARACTERS, min_size=1, max_size=128)


@given(channel_names.filter(lambda name: not name.startswith("process:")))
def test_every_name_from_the_alphabet_is_a_valid_channel(name: str) -> None:
    validate_channel(name)


@given(st.text(max_size=300))
def test_a_channel_is_valid_only_within_the_alphabet_and_length(name: str) -> None:
    allowed = 1 <= len(name) <= 256 and set(name) <= {*PROCESS_ID_CHARACTERS, ":"}
    if name.startswith("process:"):
        allowed = allowed and re.fullmatch(r"[\w.-]{1,128}", name[8:], re.ASCII) is not None
    try:
        validate_channel(name)
    except (InvalidChannelError, InvalidProcessIDError):
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize("name", ["", "a" * 257, "a b", "ü", "a/b", "news\n", "\n", "a\0b"])
def test_names_outside_the_alphabet_are_refused(name: str) -> None:
    with pytest.raises(InvalidChannelError, match="invalid channel name") as caught:
        validate_channel(name)
    assert caught.value.channel == name


@pytest.mark.parametrize("name", ["process:", "process:a:b", "process:" + "a" * 129])
def test_a_process_channel_needs_a_process_id(name: str) -> None:
    with pytest.raises(InvalidProcessIDError, match="invalid process ID"):
        validate_channel(name)


@pytest.mark.parametrize("name", ["process", "Process:a:b", "xprocess:a:b", "process:" + "a" * 128])
def test_only_the_exact_prefix_makes_a_process_channel(name: str) -> None:
    validate_channel(name)


@given(process_ids)
def test_every_process_has_a_channel(process_id: str) -> None:
    channel = process_channel(process_id)
    assert channel == f"process:{process_id}"
    validate_channel(channel)


@pytest.mark.parametrize("process_id", ["", "a:b", "a" * 129, "ß", "a\n"])
def test_invalid_process_ids_are_refused(process_id: str) -> None:
    with pytest.raises(InvalidProcessIDError, match="use 1 to 128 characters") as caught:
        validate_process_id(process_id)
    assert caught.value.process_id == process_id
