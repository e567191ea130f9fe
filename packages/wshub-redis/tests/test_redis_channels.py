"""The names of channels on Redis."""

import pytest

from wshub_redis import InvalidPrefixError
from wshub_redis.redis_channels import RedisChannels


def test_redis_channels_have_the_names_of_go_ws() -> None:
    names = RedisChannels("ws")
    assert names.broadcast == b"ws:broadcast"
    assert names.to_redis("") == b"ws:broadcast"
    assert names.to_redis("process:build-42") == b"ws:channel:process:build-42"
    for channel in ("", "process:build-42", "broadcast", "channel:x"):
        assert names.from_redis(names.to_redis(channel)) == channel


@pytest.mark.parametrize("prefix", ["ws", "a:b", "channel", "broadcast", "my-app.1_x", "x" * 256])
def test_a_prefix_may_have_the_characters_of_a_channel_name(prefix: str) -> None:
    assert RedisChannels(prefix).to_redis("c") == f"{prefix}:channel:c".encode()


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("", "use 1 to 256"),
        ("a b", "use 1 to 256"),
        ("ws*", "use 1 to 256"),
        ("x" * 257, "use 1 to 256"),
        ("ws:channel", "reserved for the names"),
        ("ws:broadcast", "reserved for the names"),
        ("ws:channel:x", "reserved for the names"),
    ],
)
def test_a_prefix_that_overlaps_or_has_other_characters_is_rejected(prefix: str, why: str) -> None:
    with pytest.raises(InvalidPrefixError, match=why):
        RedisChannels(prefix)
