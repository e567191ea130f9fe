"""The types of callbacks: mypy runs over this file and refuses exactly the marked lines.

For mypy, an unused ``ignore`` is an error, too.
"""

from inspect import signature

from wshub_client import BlockingClient, ClientOptions, ReconnectingClient
from wshub_core import Message

URL = "ws://localhost/ws"


async def later(message: Message) -> None:
    """Stand for an async callback."""


async def fetch_token() -> str:
    return "a-token"


def test_callbacks_that_fit_are_accepted() -> None:
    lines: list[object] = []
    for kind in (ReconnectingClient, BlockingClient):
        kind(
            URL,
            token=lambda: "a-token",
            on_connect=lambda: lines.append("connected"),
            on_reconnect=lambda dials: lines.append(dials + 1),
            on_disconnect=lambda: None,
            on_error=lambda error: lines.append(error.args),
            on_message=lambda message: lines.append(message.channel.upper()),
            on_raw=lambda payload: len(payload),
        )
        kind(URL, token=fetch_token, on_message=later, on_error=print, on_raw=lines.append)


def test_callbacks_that_do_not_fit_are_refused_by_type_checkers() -> None:
    ReconnectingClient(URL, on_connect=lambda connection: None)  # type: ignore[misc, arg-type]
    ReconnectingClient(URL, on_reconnect=lambda: None)  # type: ignore[misc, arg-type]
    ReconnectingClient(URL, on_message=lambda: None)  # type: ignore[misc, arg-type]
    ReconnectingClient(URL, on_message=lambda message: message.text)  # type: ignore[attr-defined]
    ReconnectingClient(URL, on_raw=lambda payload: payload.data)  # type: ignore[union-attr]
    ReconnectingClient(URL, on_error=lambda error: error.code)  # type: ignore[attr-defined]
    ReconnectingClient(URL, token=lambda: 5)  # type: ignore[arg-type, return-value]
    BlockingClient(URL, on_message=lambda: None)  # type: ignore[misc, arg-type]
    BlockingClient(URL, on_message=lambda message: message.text)  # type: ignore[attr-defined]


def test_the_options_of_both_clients_are_the_same() -> None:
    of_client = set(signature(ReconnectingClient).parameters) - {"url"}
    assert of_client == set(ClientOptions.__annotations__)
