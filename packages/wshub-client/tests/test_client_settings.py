import pytest

from wshub_client import ReconnectingClient
from wshub_core import InvalidConfigError


@pytest.mark.parametrize(
    "settings",
    [
        {"initial_backoff": 0},
        {"max_backoff": -1},
        {"stable_after": float("nan")},
        {"open_timeout": 0},
        {"heartbeat_interval": 0},
        {"pong_timeout": 0},
        {"max_message_bytes": 0},
        {"max_send_bytes": 0},
        {"inbox_size": 0},
        {"backoff_multiplier": 0.5},
        {"backoff_multiplier": float("inf")},
        {"backoff_multiplier": float("nan")},
    ],
)
def test_the_constructor_refuses_settings_that_are_not_valid(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidConfigError, match=next(iter(settings))):
        ReconnectingClient("ws://localhost/ws", **settings)  # type: ignore[arg-type]
