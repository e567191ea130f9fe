"""Channel patterns and channel authorizers, on a real hub with clients in memory."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_auth import ChannelPattern, all_of, allow, allow_claimed, any_of
from wshub_core import JSON, AuthResult, ChannelAuthorizer, Hub, HubConfig, InvalidConfigError
from wshub_core.testing import connect


async def subscribed(
    authorizer: ChannelAuthorizer,
    *channels: str,
    user_id: str = "alice",
    claims: Mapping[str, JSON] | None = None,
) -> list[str]:
    """Subscribe a client to channels and return its subscriptions."""
    config = HubConfig(
        authenticator=lambda _: AuthResult(True, user_id, claims), channel_authorizer=authorizer
    )
    async with Hub(config) as hub:
        client = await connect(hub)
        for channel in channels:
            client.subscribe(channel)
        await client.sync()
        granted = hub.connections[0].subscriptions
        refusals = [message.data for message in client.messages]
    assert len(refusals) == len(channels) - len(granted)
    return list(granted)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("news", ["news"], ["News", "news:1", "new", "xnews"]),
        ("public:**", ["public:a", "public:a:b", "public:"], ["public", "publics:a", "a:public:b"]),
        ("public:*", ["public:a"], ["public:a:b", "public"]),
        ("*", ["a", "news"], ["a:b"]),
        ("**", ["a", "a:b", "a:b:c"], []),
        ("*:log", ["a:log"], ["log", "a:b:log", "a:logs"]),
        ("process:*", ["process:build-42"], ["process"]),
        ("user:{user_id}", ["user:alice"], ["user:bob", "user", "user:alice:x", "user:"]),
        ("user:{user_id}:**", ["user:alice:x", "user:alice:x:y"], ["user:alice", "user:bob:x"]),
        ("u-{user_id}.log", ["u-alice.log"], ["u-alice", "alice.log", "u-bob.log"]),
        ("team:{team}", ["team:7"], ["team:8"]),
        ("team:{teams}:*", ["team:red:1", "team:blue:1"], ["team:green:1", "team:red"]),
        ("odd:{odd}", [], ["odd:a:b", "odd:x", "odd:", "odd:a"]),
        ("none:{none}", [], ["none:", "none:None"]),
        ("missing:{missing}", [], ["missing:", "missing:missing"]),
        ("map:{map}", [], ["map:a", "map:"]),
    ],
)
async def test_a_pattern_allows_the_matching_channels_only(
    pattern: str, matching: list[str], other: list[str]
) -> None:
    claims = {
        "team": 7,
        "teams": ["red", "blue"],
        "odd": ["a:b", "*", "", "**", "x y", None, "{user_id}"],
        "none": None,
        "map": {"a": 1},
    }
    assert await subscribed(allow(pattern), *matching, *other, claims=claims) == sorted(matching)


@pytest.mark.parametrize("user_id", ["alice:x", "*", "a*", "a lice", "al/ice", "älice", "a\tb"])
async def test_a_user_id_with_other_characters_than_a_channel_name_matches_nothing(
    user_id: str,
) -> None:
    authorizer = allow("user:{user_id}", "user:{user_id}:**")
    assert await subscribed(authorizer, "user:alice:x", "user:a", "user:x", user_id=user_id) == []


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:", ":a", "a b", "a**", "**:a", "a*b", "{a}{b}", "{", "{}", "ä", "a\n", "*{a}"],
)
def test_an_invalid_pattern_raises_invalid_config_error(text: str) -> None:
    with pytest.raises(InvalidConfigError, match="invalid channel pattern"):
        ChannelPattern(text)
    with pytest.raises(InvalidConfigError):
        allow("fine", text)


async def test_one_matching_pattern_of_several_is_enough() -> None:
    assert await subscribed(allow("a", "b:*"), "a", "b:c", "d") == ["a", "b:c"]
    assert await subscribed(allow(), "a") == []


async def test_patterns_in_a_claim_allow_channels_and_invalid_ones_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    authorizer = allow_claimed("channels")
    claims: dict[str, Any] = {"channels": ["news", "team:*", "user:{user_id}", "bad pattern", 7]}
    channels = ("news", "team:7", "user:alice", "user:bob", "other")
    allowed = ["news", "team:7", "user:alice"]
    assert await subscribed(authorizer, *channels, claims=claims) == allowed
    assert "ignored a pattern in the claims of" in caplog.text
    for odd in (None, {"channels": "**"}, {"channels": None}, {"channels": {"news": 1}}):
        assert await subscribed(authorizer, *channels, claims=odd) == []


def yes(*_: object) -> bool:
    return True


def no(*_: object) -> bool:
    return False


def fail(*_: object) -> bool:
    raise LookupError("no database")


TRUTHY: Any = lambda *_: "denied"  # noqa: E731 - mypy would reject a function with this result


async def yes_later(*_: object) -> bool:
    await asyncio.sleep(0)
    return True


async def fail_later(*_: object) -> bool:
    await asyncio.sleep(0)
    raise LookupError("no database")


@pytest.mark.parametrize(
    ("authorizer", "is_allowed"),
    [
        (TRUTHY, False),
        (any_of(TRUTHY), False),
        (all_of(yes, TRUTHY), False),
        (any_of(), False),
        (any_of(no, yes), True),
        (any_of(no, yes_later), True),
        (any_of(no, no), False),
        (any_of(fail, yes), True),
        (any_of(fail_later, yes_later), True),
        (any_of(fail, fail_later), False),
        (all_of(), False),
        (all_of(yes, yes_later), True),
        (all_of(yes, no), False),
        (all_of(yes, fail), False),
        (all_of(fail_later, yes), False),
        (any_of(all_of(yes, no), all_of(yes, yes)), True),
    ],
)
async def test_an_authorizer_that_raises_or_returns_another_value_than_true_denies(
    authorizer: Any, is_allowed: bool
) -> None:
    assert await subscribed(authorizer, "a") == (["a"] if is_allowed else [])


names = st.text("ab.:-_", min_size=1, max_size=12)


@given(names, st.text("ab.:*{}", max_size=8))
async def test_a_user_id_allows_at_most_its_own_channel(channel: str, user_id: str) -> None:
    authorizer = allow("user:{user_id}")
    config = HubConfig(
        authenticator=lambda _: AuthResult(True, user_id or "x"), channel_authorizer=authorizer
    )
    async with Hub(config) as hub:
        client = await connect(hub)
        client.subscribe(f"user:{channel}")
        await client.sync()
        granted = hub.connections[0].subscriptions
    assert granted in ((), (f"user:{user_id}",))
