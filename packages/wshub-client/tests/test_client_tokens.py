"""The token and the headers of the handshake."""

import asyncio
from typing import Any

import pytest
from client_servers import QUICK, Log, answer_pings, run, websocket_server
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from wshub_client import ReconnectingClient, RetriesExhaustedError
from wshub_core import InvalidConfigError

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


async def test_token_headers_and_origin_are_sent_with_every_dial() -> None:
    seen: list[tuple[str | None, ...]] = []
    names = ("Authorization", "X-Room", "Origin")

    def note(connection: ServerConnection, request: Request) -> Response | None:
        seen.append(tuple(request.headers.get(name) for name in names))
        return connection.respond(503, "") if len(seen) < 3 else None

    tokens = iter(["one", "two", "three"])

    async def next_token() -> str:
        await asyncio.sleep(0)
        return next(tokens)

    async with websocket_server(answer_pings, process_request=note) as url:
        options: dict[str, Any] = {
            "token": next_token,
            "headers": {"X-Room": "7"},
            "origin": "https://app.example",
        }
        async with ReconnectingClient(url, **options, **QUICK):
            pass
    assert seen == [(f"Bearer {n}", "7", "https://app.example") for n in ("one", "two", "three")]


async def test_a_token_function_that_raises_is_a_failed_dial_without_its_text(url: str) -> None:
    calls = 0

    def token() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise LookupError("s3cret")
        return "fine"

    log = Log()
    async with ReconnectingClient(url, token=token, on_error=log.note_error, **QUICK):
        pass
    assert log.entries == ["DialError", "DialError"]
    assert str(log.errors[0]) == "the token function failed: LookupError"
    assert isinstance(log.errors[0].__cause__, LookupError)


@pytest.mark.parametrize("token", ["s3cret\n", "s3cret\r\nX-Evil: 1", "s3cr\u00e9t"])
async def test_the_error_for_a_token_that_fits_no_header_does_not_show_it(
    url: str, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidConfigError, match="header Authorization") as raised:
        ReconnectingClient(url, token=token)
    assert "s3cr" not in str(raised.value)
    with pytest.raises(InvalidConfigError, match="header X-Key"):
        ReconnectingClient(url, headers={"X-Key": token})
    error = await run(ReconnectingClient(url, token=lambda: token, max_attempts=0, **QUICK))
    assert error is not None
    assert "s3cr" not in f"{error} {error.__cause__} {caplog.text}"


async def test_a_debug_log_does_not_contain_the_token(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with ReconnectingClient(url, token="s3cret"):
        pass
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("token", ["", b"bytes", 5, None])
async def test_a_token_function_that_returns_no_text_is_a_failed_dial(url: str, token: Any) -> None:
    error = await run(ReconnectingClient(url, token=lambda: token, max_attempts=0, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert str(error.__cause__) == "the token function failed: TypeError"


async def test_a_token_function_that_awaits_something_cancelled_is_a_failed_dial(url: str) -> None:
    async def token() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future

    error = await run(ReconnectingClient(url, token=token, max_attempts=0, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert str(error.__cause__) == "the token function failed: CancelledError"
