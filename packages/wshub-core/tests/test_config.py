from typing import Any

import pytest

from wshub_core import HubConfig, InvalidConfigError


def test_the_defaults_are_those_of_the_documentation() -> None:
    config = HubConfig()
    assert config.max_message_bytes == 65_536
    assert config.max_subscriptions == 1_024
    assert config.max_outbox_bytes == 1_048_576
    assert config.open_timeout == 10.0
    assert config.close_timeout == 10.0
    assert config.heartbeat_interval == 30.0
    assert config.pong_timeout == 60.0
    assert config.write_timeout == 10.0
    assert config.overflow == "close"
    assert config.max_connections is None


@pytest.mark.parametrize(
    ("heartbeat", "pong", "expected"), [(20.0, 10.0, 40.0), (5.0, 5.0, 10.0), (5.0, 6.0, 6.0)]
)
def test_a_pong_timeout_must_leave_time_for_a_ping(
    heartbeat: float, pong: float, expected: float
) -> None:
    assert HubConfig(heartbeat_interval=heartbeat, pong_timeout=pong).pong_timeout == expected


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_message_bytes": 0}, "HubConfig.max_message_bytes must be above 0"),
        ({"max_subscriptions": -1}, "HubConfig.max_subscriptions must be above 0"),
        ({"open_timeout": 0.0}, "HubConfig.open_timeout must be above 0"),
        ({"close_timeout": float("nan")}, "HubConfig.close_timeout must be above 0"),
        ({"max_outbox_bytes": 65_535}, "must hold at least one message"),
        ({"max_connections": 0}, "HubConfig.max_connections must be above 0, not 0"),
        ({"overflow": "block"}, "must be one of close, drop_oldest, drop_newest"),
        ({"allowed_origins": "https://app.example"}, "not one string"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidConfigError, match=text):
        HubConfig(**settings)
