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
def test_addresses_of_hubs_are_accepted(url: str) -> None:
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
def test_the_constructor_refuses_an_address_that_is_not_valid(url: str) -> None:
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
def test_redacted_addresses_show_no_secrets(url: str, described: str) -> None:
    assert redact_url(url) == described
