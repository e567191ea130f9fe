from typing import Any

import pytest

from wshub_core import Compression, HubConfig, InvalidConfigError, Request
from wshub_core.values.origins import origin_allowed


def test_the_defaults_match_the_documentation() -> None:
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
    assert config.compression is None
    assert Compression().min_bytes == 256


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
        ({"allowed_origins": ["app.example"]}, "use 'https://app.example' instead of"),
        ({"allowed_origins": ["app.example:8443"]}, "use 'https://app.example:8443' instead of"),
        ({"allowed_origins": ["https://app.example/page"]}, "remove everything else"),
        ({"allowed_origins": ["https://user@app.example"]}, "remove everything else"),
        ({"allowed_origins": ["https://*.example"]}, "use HubConfig.check_origin for patterns"),
        ({"allowed_origins": ["https://größe.example"]}, "write the host in ASCII"),
        ({"allowed_origins": ["https://"]}, "an origin is a scheme, a host"),
        ({"allowed_origins": ["https://app.example:port"]}, "an origin is a scheme, a host"),
        (
            {"compression": True},
            r"must be Compression\(…\) or None, not bool",
        ),
        ({"on_connect": "greet"}, "HubConfig.on_connect must be a function, not str"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidConfigError, match=text):
        HubConfig(**settings)


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "256"])
def test_the_smallest_compressed_message_has_a_size(size: Any) -> None:
    with pytest.raises(InvalidConfigError, match="must be a number of bytes above 0"):
        Compression(min_bytes=size)


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://app.example/", "https://app.example"),
        ("HTTPS://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80/", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("https://app.example:8443", "https://app.example:8443"),
        ("https://xn--gre-6ka8i.example", "https://xn--gre-6ka8i.example"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("null", "null"),
        ("*", "*"),
    ],
)
def test_different_spellings_of_an_origin_are_equal(given: str, origin: str) -> None:
    config = HubConfig(allowed_origins=[given])
    assert config.allowed_origins == (origin,)
    request = Request("GET", "/ws", headers={"origin": (origin,), "host": ("hub.example",)})
    assert origin_allowed(request, config.allowed_origins)
