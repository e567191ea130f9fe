import pytest

from wshub_client import BlockingClient, ReconnectingClient
from wshub_client.addresses import check_url, redact_url
from wshub_core import InvalidConfigError


@pytest.mark.parametrize(
    "url",
    [
        "ws://localhost",
        "ws://localhost:8080/ws",
        "wss://hub.example/ws?room=1",
        "ws://[::1]:8080/ws",
        "WS://localhost/",
        "ws://alice:s3cret@localhost/ws",
    ],
)
def test_addresses(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8080/ws",
        "http://localhost/ws",
        "ws://",
        "ws:///ws",
        "ws://localhost:port/ws",
        "ws://localhost:99999/ws",
        "ws://localhost/ws#top",
        "ws://[::1/ws",
    ],
)
def test_what_is_no_address_is_said_at_once(url: str) -> None:
    for kind in (ReconnectingClient, BlockingClient):
        with pytest.raises(InvalidConfigError, match="is not the address of a hub"):
            kind(url)


@pytest.mark.parametrize(
    ("url", "described"),
    [
        ("ws://localhost:8080/ws?token=s3cret", "ws://localhost:8080/ws"),
        ("ws://alice:s3cret@localhost/ws", "ws://localhost/ws"),
        ("http//s3cret@localhost", "http//localhost"),
        ("/relative?token=s3cret", "/relative"),
    ],
)
def test_errors_show_no_secrets_of_an_address(url: str, described: str) -> None:
    assert redact_url(url) == described


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
def test_settings_that_cannot_work_are_said_at_once(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidConfigError, match=next(iter(settings))):
        ReconnectingClient("ws://localhost/ws", **settings)  # type: ignore[arg-type]
